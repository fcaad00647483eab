//! Makes a sequence that shows a difference shorter, by doing parts of it to fresh servers.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::operation::Operation;
use super::pair::{Difference, Pair};

/// Tries, and the time for all of them: a person waits.
const TRIES_MAX: usize = 200;
const TIME_MAX: Duration = Duration::from_secs(90);
/// Operations that are looked at: what is further back is rarely to do with it, and each try does all of them.
const LOOKED_AT: usize = 2_000;

/// The sequence, shortened, with what it shows.
pub(crate) async fn shown(done: &[Operation], difference: &Difference) -> Result<String> {
    let begun = Instant::now();
    let last = done.len().saturating_sub(LOOKED_AT);
    let mut shown = difference.clone();
    let tail = done[last..].to_vec();
    let short = shortest(tail, TRIES_MAX, async |some: &[Operation]| {
        if begun.elapsed() > TIME_MAX {
            return Ok(false);
        }
        // Without the operations before it one may be about revisions that are still to come, and not end.
        let found = first_difference(some).await.unwrap_or(None);
        let found = found.filter(|found| found.is_alike(difference));
        let is_found = found.is_some();
        if let Some(found) = found {
            shown = found;
        }
        Ok(is_found)
    });
    let short = short.await?;
    let mut text = format!("shortened to {} operations:\n", short.len());
    for operation in &short {
        writeln!(text, "  {operation}")?;
    }
    writeln!(text, "which end in {shown}")?;
    Ok(text)
}

async fn first_difference(operations: &[Operation]) -> Result<Option<Difference>> {
    let mut pair = Pair::start().await?;
    for operation in operations.iter().chain([&Operation::Settle]) {
        if let Err(difference) = pair.apply(operation).await? {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

/// Leaves out ever smaller parts of `all` as long as what is left still fails; if all of it does not, that is the answer.
/// Source: delta debugging, Zeller and Hildebrandt 2002.
pub(crate) async fn shortest<T: Clone>(
    mut all: Vec<T>,
    tries_max: usize,
    mut fails: impl AsyncFnMut(&[T]) -> Result<bool>,
) -> Result<Vec<T>> {
    let mut tries = 1;
    if !fails(&all).await? {
        return Ok(all);
    }
    let mut part = all.len() / 2;
    while part > 0 {
        let mut start = 0;
        while start < all.len() {
            if tries >= tries_max {
                return Ok(all);
            }
            tries += 1;
            let end = (start + part).min(all.len());
            let rest = [&all[..start], &all[end..]].concat();
            match fails(&rest).await? {
                true => all = rest,
                false => start = end,
            }
        }
        part /= 2;
    }
    Ok(all)
}
