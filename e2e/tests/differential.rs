//! The same random operations to a real etcd and to Coord, and every reply, event and hash compared: codes and texts, too.
//!
//! Masked are only what is each server's own: ids, terms, tokens, and one second of a lease's time. A difference is printed
//! with its seed and with a shortened sequence that shows it. That differences are seen is a test as well: replies are
//! altered on their way, in each of several ways, and each must be found.
//!
//! A second pair of lists is about rights: every call by a user without them, and what becomes of tokens and watchers as they go.
//!
//! `COORD_DIFFERENTIAL_OPERATIONS` and `COORD_DIFFERENTIAL_SEED` say how many, and which: `make differential`.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;

#[path = "differential/alter.rs"]
mod alter;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/operation.rs"]
mod operation;
#[path = "differential/pair.rs"]
mod pair;
#[path = "differential/scripted.rs"]
mod scripted;
#[path = "differential/shrink.rs"]
mod shrink;
#[path = "differential/side.rs"]
mod side;
#[path = "differential/watching.rs"]
mod watching;

use alter::Alteration;
use generate::Generator;
use operation::Operation;
use pair::{Difference, Pair};

/// As many as `make test` has time for.
const OPERATIONS: u64 = 100_000;
/// Operations on one pair of servers, before the next begins anew with another seed.
const ON_ONE_PAIR: u64 = 5_000;
/// Pairs at one time: operations of one pair wait for each other, and often for etcd, which looks ten times a second for watchers
/// that are behind.
const PAIRS: usize = 8;
/// An alteration that so many operations do not show is not found.
const UNTIL_FOUND: usize = 4_000;

fn number(name: &str) -> Result<Option<u64>> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map(|text| text.parse().with_context(|| format!("{name}={text}")))
        .transpose()
}

fn run(body: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime needs epoll");
    if let Err(error) = runtime.block_on(body) {
        panic!("{error:?}");
    }
}

/// Compares so many operations of one seed, on a pair of servers that nothing was done to before.
///
/// Errors: a difference, with what is needed to see it again; or the test cannot go on.
async fn compare(seed: u64, count: u64) -> Result<()> {
    let begun = Instant::now();
    let mut generator = Generator::new(seed);
    let mut pair = Pair::start().await?;
    let mut done = Vec::new();
    for number in 1..=count {
        let operation = generator.next(pair.seen());
        done.push(operation.clone());
        let applied = pair.apply(&operation).await;
        let applied = applied.with_context(|| format!("seed {seed}, operation {number}"))?;
        if let Err(difference) = applied {
            drop(pair);
            println!("seed {seed}, operation {number}: shortening\n{difference}");
            let shown = shrink::shown(&done, &difference).await?;
            bail!("seed {seed}, operation {number}:\n{difference}\n{shown}");
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("seed {seed}: {count} operations alike in {seconds:.1} s");
    Ok(())
}

#[test]
fn coord_answers_as_etcd_does() {
    run(async {
        let all = number("COORD_DIFFERENTIAL_OPERATIONS")?.unwrap_or(OPERATIONS);
        let first = number("COORD_DIFFERENTIAL_SEED")?.unwrap_or(1);
        let begun = Instant::now();
        let runs = (0..all.div_ceil(ON_ONE_PAIR)).map(|run| {
            let count = (all - run * ON_ONE_PAIR).min(ON_ONE_PAIR);
            Ok(compare(first + run, count))
        });
        futures::stream::iter(runs)
            .try_buffer_unordered(PAIRS)
            .try_collect::<()>()
            .await?;
        let seconds = begun.elapsed().as_secs_f64();
        println!("{all} operations alike in {seconds:.1} s");
        Ok(())
    });
}

/// Does these operations to a pair of servers.
///
/// Errors: a difference.
async fn alike(operations: Vec<Operation>) -> Result<()> {
    let mut pair = Pair::start().await?;
    for operation in operations.iter().chain([&Operation::Settle]) {
        if let Err(difference) = pair.apply(operation).await? {
            bail!("{difference}");
        }
    }
    println!("{} operations alike", operations.len());
    Ok(())
}

#[test]
fn a_user_without_the_right_is_refused_as_by_etcd() {
    run(alike(scripted::without_rights()));
}

#[test]
fn rights_that_go_take_tokens_and_watchers_with_them_as_in_etcd() {
    run(alike(scripted::rights_that_go()));
}

#[test]
fn every_kind_of_difference_is_found() {
    run(async {
        let mut generator = Generator::new(1);
        let mut pair = Pair::start().await?;
        for alteration in Alteration::ALL {
            pair.alter(Some(alteration));
            let mut found = None;
            for number in 1..=UNTIL_FOUND {
                let operation = generator.next(pair.seen());
                if pair.apply(&operation).await?.is_err() {
                    found = Some(number);
                    break;
                }
            }
            let number = found.with_context(|| format!("{alteration:?} was not found"))?;
            println!("{alteration:?}: found by operation {number}");
            pair.alter(None);
        }
        Ok(())
    });
}

/// A sequence that shows a difference becomes one of what is needed for it, and no more.
#[test]
fn a_sequence_is_shortened_to_what_is_needed() {
    run(async {
        let all: Vec<u32> = (0..100).collect();
        let mut tries = 0;
        let short = shrink::shortest(all, 200, async |some: &[u32]| {
            tries += 1;
            Ok(some.contains(&17) && some.contains(&90))
        });
        assert_eq!(short.await?, [17, 90]);
        assert!(tries < 100, "{tries} tries");
        Ok(())
    });
}

/// A difference says where it is.
#[test]
fn a_difference_names_the_operation_and_both_answers() {
    let difference = Difference {
        at: "Range".to_owned(),
        etcd: serde_json::json!({"count": "1"}),
        coord: serde_json::json!({"count": "2"}),
    };
    let text = difference.to_string();
    for part in ["Range", r#""count":"1""#, r#""count":"2""#] {
        assert!(text.contains(part), "{text}");
    }
}
