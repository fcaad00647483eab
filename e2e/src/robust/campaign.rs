//! Runs by the dozen, and what a person is told about them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::failpoints::{self, Planted};
use super::failure::Failure;
use super::record::Record;
use super::run::{self, Plan, Report};
use super::scenario::Scenario;

/// A run that takes longer hangs, or its machine does: usually it takes 10 to 30 seconds.
const RUN_MAX: Duration = Duration::from_secs(300);
/// Seeds that a planted bug is looked for with before it counts as not found.
const ATTEMPTS: u64 = 5;
/// Void runs of the server without a bug that are repeated, with the same seed.
const CONTROLS: usize = 3;
/// The time in which rounds of faults begin: two to five of them. More runs find more than longer ones: each begins
/// on a new cluster.
pub const ROUNDS: Duration = Duration::from_secs(8);

/// Runs a plan and prints one paragraph about it. A run that broke a promise leaves its record, and says where.
pub fn one(plan: &Plan) -> Result<Report, Failure> {
    let mut record = Record::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    let result = runtime.block_on(async {
        let run = tokio::time::timeout(RUN_MAX, run::run(plan, &mut record)).await;
        run.unwrap_or_else(|_| {
            let why = anyhow!("the run does not end in {} s", RUN_MAX.as_secs());
            Err(Failure::Void(why))
        })
    });
    // Clients that still wait for a member that is gone end here.
    drop(runtime);
    match &result {
        Ok(report) => println!("{}", told(report)),
        Err(failure) => {
            let name = plan.scenario.name();
            println!("{name} seed {}: {failure}", plan.seed);
            if let (Failure::Broken(_), None) = (failure, plan.bug) {
                keep(&record);
            }
        }
    }
    result
}

fn keep(record: &Record) {
    match record.save(&run::folder()) {
        Ok(path) => println!(
            "  what was seen is in {0}; judge it again: cargo run -p coord-e2e -- judge {0}",
            path.display()
        ),
        Err(error) => println!("  what was seen cannot be kept: {error:#}"),
    }
}

fn told(report: &Report) -> String {
    let Report {
        plan,
        faults,
        recovery,
        judged,
    } = report;
    let mut text = format!(
        "{} seed {}: holds. {} faults, {} ms at most until all served again; {} calls answered, {} unknown; {} revisions; \
         {} watchers with {} events; {} leases; {} terms",
        plan.scenario.name(),
        plan.seed,
        faults.len(),
        recovery.as_millis(),
        judged.answered,
        judged.unknown,
        judged.revisions,
        judged.watchers,
        judged.events,
        judged.leases,
        judged.sightings,
    );
    for fault in faults {
        text += &format!("\n  {}", fault.0);
    }
    text
}

/// All scenarios in turn, each with a new seed, until the time is up. Errors: a run that broke a promise; a void one is
/// told and counted.
pub fn campaign(time: Duration, only: Option<Scenario>, first_seed: u64) -> Result<()> {
    let started = Instant::now();
    let (mut held, mut void, mut calls) = (0, 0, 0);
    let mut broken: Vec<String> = Vec::new();
    let scenarios = Scenario::ALL
        .into_iter()
        .filter(|scenario| only.is_none_or(|only| only == *scenario))
        .cycle();
    for (seed, scenario) in (first_seed..).zip(scenarios) {
        if started.elapsed() >= time {
            break;
        }
        let plan = Plan {
            scenario,
            seed,
            time: ROUNDS,
            bug: None,
        };
        match one(&plan) {
            Ok(report) => {
                held += 1;
                calls += report.judged.answered;
            }
            Err(Failure::Void(_)) => void += 1,
            Err(Failure::Broken(_)) => broken.push(format!("{} seed {seed}", scenario.name())),
        }
    }
    println!(
        "{held} runs hold, {void} are void, {} are broken; {calls} calls in {} s",
        broken.len(),
        started.elapsed().as_secs()
    );
    ensure!(broken.is_empty(), "broken: {}", broken.join(", "));
    Ok(())
}

/// How a planted bug fared.
pub struct Hunt {
    /// The planted bug.
    pub planted: Planted,
    /// The violation that gave it away.
    pub found: Option<String>,
    /// Whether the server without the bug holds in the same run: in `hunt_all` only.
    pub is_clean_without: Option<bool>,
    /// Runs that it took.
    pub runs: u64,
    /// Time that they took.
    pub took: Duration,
}

/// Looks for one planted bug, with one seed after the other.
pub fn hunt(planted: Planted, first_seed: u64) -> Hunt {
    let started = Instant::now();
    let mut hunt = Hunt {
        planted,
        found: None,
        is_clean_without: None,
        runs: 0,
        took: Duration::ZERO,
    };
    for seed in first_seed..first_seed + ATTEMPTS {
        let plan = Plan {
            scenario: planted.scenario,
            seed,
            time: ROUNDS,
            bug: Some(planted.bug),
        };
        hunt.runs += 1;
        if let Err(Failure::Broken(why)) = one(&plan) {
            hunt.found = Some(why);
            break;
        }
    }
    hunt.took = started.elapsed();
    hunt
}

/// The run that found a bug, on a server without it: otherwise its finding may have been something else.
fn control(hunt: &mut Hunt, first_seed: u64) {
    let plan = Plan {
        scenario: hunt.planted.scenario,
        seed: first_seed + hunt.runs - 1,
        time: ROUNDS,
        bug: None,
    };
    for _ in 0..CONTROLS {
        match one(&plan) {
            Ok(_) => hunt.is_clean_without = Some(true),
            Err(Failure::Broken(_)) => hunt.is_clean_without = Some(false),
            Err(Failure::Void(_)) => continue,
        }
        break;
    }
}

/// Looks for every planted bug and prints a table. Errors: one was not found, or the run that found it does not hold
/// without it.
pub fn hunt_all(only: Option<&str>, first_seed: u64) -> Result<()> {
    let wanted = failpoints::ALL
        .into_iter()
        .filter(|planted| only.is_none_or(|only| only == planted.bug));
    let hunts: Vec<Hunt> = wanted
        .map(|planted| {
            let mut hunt = hunt(planted, first_seed);
            if hunt.found.is_some() {
                control(&mut hunt, first_seed);
            }
            hunt
        })
        .collect();
    println!(
        "| bug | run | found | clean without | runs | seconds | by |\n|---|---|---|---|---|---|---|"
    );
    for hunt in &hunts {
        let Hunt {
            planted: Planted { bug, scenario },
            found,
            is_clean_without,
            runs,
            took,
        } = hunt;
        let by = found
            .as_deref()
            .unwrap_or("-")
            .lines()
            .next()
            .unwrap_or("-");
        println!(
            "| {bug} | {} | {} | {} | {runs} | {} | {} |",
            scenario.name(),
            if found.is_some() { "yes" } else { "NO" },
            match is_clean_without {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            },
            took.as_secs(),
            by.chars().take(110).collect::<String>()
        );
    }
    let missed: Vec<_> = hunts
        .iter()
        .filter(|hunt| hunt.found.is_none())
        .map(|hunt| hunt.planted.bug)
        .collect();
    ensure!(missed.is_empty(), "not found: {}", missed.join(", "));
    let unclean: Vec<_> = hunts
        .iter()
        .filter(|hunt| hunt.is_clean_without != Some(true))
        .map(|hunt| hunt.planted.bug)
        .collect();
    ensure!(
        unclean.is_empty(),
        "the run that found it does not hold without it either: {}",
        unclean.join(", ")
    );
    Ok(())
}

/// Judges a kept record again.
pub fn judge(path: &Path) -> Result<()> {
    let record = Record::load(path)?;
    let judged = super::verdict::judge(&record)?;
    println!("holds: {judged:?}");
    Ok(())
}
