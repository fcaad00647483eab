//! Many seeds, each in a process of its own: nothing of one run is left in the next, and one that hangs can be ended.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::wrong::{BUG, Wrong};

/// A run takes a second or two; one that takes longer than this hangs.
const RUN_MAX: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(5);

/// The seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed; the others follow.
    pub first: u64,
    /// The time to simulate.
    pub simulated: Duration,
    /// The real time after which it ends in any case.
    pub real_max: Duration,
    /// Processes at a time.
    pub jobs: usize,
    /// The fault put in on purpose.
    pub wrong: Wrong,
    /// Whether the first failure is enough.
    pub is_search: bool,
}

/// The result of a campaign.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds that were run.
    pub runs: u64,
    /// Virtual seconds, of good runs.
    pub simulated: f64,
    /// Seconds of a processor that the processes of good runs took.
    pub taken: f64,
    /// Answered calls of clients.
    pub answered: u64,
    /// Seeds that failed, and why.
    pub failed: Vec<(u64, String)>,
}

/// The line that a good run prints: read back by [`run`].
pub fn line(seed: u64, simulated: f64, taken: f64, answered: usize, trace: u64) -> String {
    format!(
        "seed {seed}: {simulated:.1} s simulated in {taken:.2} s of a processor, {answered} calls answered, trace {trace:016x}"
    )
}

/// Of a good run's line: virtual seconds, seconds of a processor, calls.
fn read_line(line: &str) -> Option<(f64, f64, u64)> {
    let (_, rest) = line.split_once(": ")?;
    let (simulated, rest) = rest.split_once(" s simulated in ")?;
    let (taken, rest) = rest.split_once(" s of a processor, ")?;
    let (answered, _) = rest.split_once(' ')?;
    Some((
        simulated.parse().ok()?,
        taken.parse().ok()?,
        answered.parse().ok()?,
    ))
}

/// Runs seeds until the time is up. `said` is told of each.
pub fn run(program: &Path, campaign: Campaign, said: impl Fn(&str) + Sync) -> Result<Report> {
    let next = AtomicU64::new(campaign.first);
    let report = Mutex::new(Report::default());
    let began = Instant::now();
    let work = || -> Result<()> {
        loop {
            {
                let report = report.lock().expect("no one panicked");
                let is_found = campaign.is_search && !report.failed.is_empty();
                if is_found
                    || report.simulated >= campaign.simulated.as_secs_f64()
                    || began.elapsed() >= campaign.real_max
                {
                    return Ok(());
                }
            }
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let ran = one(program, seed, campaign.wrong)?;
            let mut report = report.lock().expect("no one panicked");
            report.runs += 1;
            match ran {
                Ok(line) => {
                    said(&line);
                    let (simulated, taken, answered) =
                        read_line(&line).with_context(|| format!("a run said: {line}"))?;
                    report.simulated += simulated;
                    report.taken += taken;
                    report.answered += answered;
                }
                Err(why) => {
                    said(&why);
                    // So that a campaign of which every run fails ends, too.
                    report.simulated += 200.0;
                    report.failed.push((seed, why));
                }
            }
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..campaign.jobs.max(1))
            .map(|_| scope.spawn(work))
            .collect();
        for worker in workers {
            worker.join().expect("no one panicked")?;
        }
        Ok(())
    })?;
    Ok(report.into_inner().expect("no one panicked"))
}

/// The command that runs a seed again.
pub fn replay(seed: u64, wrong: Wrong) -> String {
    let Wrong { sabotage, bug } = wrong;
    if sabotage.is_none() && bug.is_none() {
        return format!("make sim SEED={seed}");
    }
    let bug = bug.map_or_else(String::new, |bug| format!("{BUG}={} ", bug.name()));
    let sabotage = sabotage.map_or_else(String::new, |it| format!(" --sabotage {}", it.name()));
    format!(
        "{bug}cargo run --profile sim -p coord-simulation --features failpoints -- --seed {seed}{sabotage} --log info"
    )
}

/// Runs one seed in a process of this program: the line it printed, or why it failed, with the command that replays it.
pub fn one(program: &Path, seed: u64, wrong: Wrong) -> Result<Result<String, String>> {
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string()]);
    if let Some(sabotage) = wrong.sabotage {
        command.arg("--sabotage").arg(sabotage.name());
    }
    match wrong.bug {
        Some(bug) => command.env(BUG, bug.name()),
        None => command.env_remove(BUG),
    };
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let Some(child) = wait(child)? else {
        return Ok(Err(format!(
            "seed {seed} FAILED: it did not end in {} s\nreplay: {}",
            RUN_MAX.as_secs(),
            replay(seed, wrong)
        )));
    };
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout)
            .trim()
            .to_owned()));
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(Err(match why.is_empty() {
        true => format!(
            "seed {seed} FAILED: {}\nreplay: {}",
            output.status,
            replay(seed, wrong)
        ),
        false => why,
    }))
}

/// Waits for the end; ends it if that takes too long.
fn wait(mut child: Child) -> Result<Option<Child>> {
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > RUN_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
    Ok(Some(child))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_prints_is_read_back() {
        let line = line(7, 161.0, 1.25, 1117, 0xabc);
        assert_eq!(read_line(&line), Some((161.0, 1.25, 1117)));
    }
}
