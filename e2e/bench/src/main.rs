//! `coord-bench`: the door to the benchmark. `make bench` calls it, and so may you; `--list` shows the rows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use coord_bench::cluster::{Program, Side, built_etcd};
use coord_bench::machine::Facts;
use coord_bench::report::{self, Measured, Report};
use coord_bench::rounds;
use coord_bench::rows::{Effort, ROWS, Row};
use coord_bench::snapshot;

/// Measure Coord beside a real etcd.
#[derive(Parser)]
#[command(name = "coord-bench", version)]
struct Cli {
    /// Rows to measure, as put-64 or put-64/3; all when not given
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// List the rows and exit
    #[arg(long)]
    list: bool,
    /// Rounds of each row
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Two rounds of one second: to see that it works, not to compare
    #[arg(long)]
    quick: bool,
    /// Measure one side alone, for a profiler
    #[arg(long)]
    side: Option<Only>,
    /// Keys of the row 'million'; its targets are for a million
    #[arg(long, default_value_t = 1_000_000)]
    million: u64,
    /// Instead of rows: send a state of this many megabytes to a member that needs it, and say what that costs
    #[arg(long, value_name = "MEGABYTES")]
    snapshot: Option<u64>,
    /// Print the readings as JSON
    #[arg(long)]
    json: bool,
    /// Write benchmarks.md and its pictures into this directory
    #[arg(long)]
    write: Option<PathBuf>,
    /// End with status 1 if a row failed or a target was missed
    #[arg(long)]
    check: bool,
    /// Coord's executable; by default the release build beside this program
    #[arg(long, env = "COORD_BENCH_COORD")]
    coord: Option<PathBuf>,
    /// etcd's executable; by default one that was built here, for the benchmark or for the local Kubernetes. A server that
    /// takes etcd's flags may stand in its place: an earlier build of Coord, to measure what a change costs
    #[arg(long, env = "COORD_BENCH_ETCD")]
    etcd: Option<PathBuf>,
    /// Where the members keep their data; should be on a real disk
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Only {
    Coord,
    Etcd,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run_or_interrupted(Cli::parse())))
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("coord-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Dropping the run ends the members and removes their data, so an interrupted one leaves nothing behind.
async fn run_or_interrupted(cli: Cli) -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = run(cli) => result,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("told to end"),
    }
}

async fn run(cli: Cli) -> Result<bool> {
    if cli.list {
        for row in ROWS {
            println!("{:<16} {}", row.id(), row.full_title());
        }
        return Ok(true);
    }
    if let Some(megabytes) = cli.snapshot {
        return run_snapshot(&cli, megabytes).await;
    }
    let chosen = choose(&cli.only)?;
    let programs = programs(&cli)?;
    let (rounds, seconds) = if cli.quick {
        (2, 1.0)
    } else {
        (cli.rounds, cli.seconds)
    };
    let effort = Effort {
        seconds,
        million: cli.million,
        trials: 5,
        dir: directory(&cli)?,
    };
    let version = |side| {
        programs
            .get(&side)
            .map_or("nothing", |program| &program.version)
    };
    let facts = Facts::collect(&effort.dir, version(Side::Ours), version(Side::Theirs))?;
    let mut report = Report::new(facts, rounds, &effort);
    let count = chosen.len();
    for (nth, row) in chosen.into_iter().enumerate() {
        eprintln!("[{}/{count}] {}", nth + 1, row.full_title());
        let told =
            |round, side, reading: &_| eprintln!("{}", report::line(&row, round, side, reading));
        let pairs = rounds::run(&row, &programs, row.rounds(rounds), &effort, told).await;
        if let Some(failure) = &pairs.failure {
            eprintln!("{:<14} failed: {failure}", row.id());
        }
        report.rows.push(Measured::new(row, pairs));
    }
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report::print(&report)?;
    }
    if let Some(dir) = cli.write {
        report::write_pages(&report, &dir)?;
    }
    Ok(!cli.check || report.is_good())
}

async fn run_snapshot(cli: &Cli, megabytes: u64) -> Result<bool> {
    let program = coord(cli)?;
    let dir = directory(cli)?.join("snapshot");
    snapshot::measure(&program, &dir, megabytes * 1_000_000, |what, transfer| {
        println!("{megabytes} MB {what}:\n{transfer}");
    })
    .await?;
    Ok(true)
}

fn coord(cli: &Cli) -> Result<Program> {
    let path = match &cli.coord {
        Some(path) => path.clone(),
        None => target_dir()?.join("release/coord-server"),
    };
    Program::find(Side::Ours, &path)
        .context("build it with 'cargo build --release -p coord-server', or name one with --coord")
}

fn directory(cli: &Cli) -> Result<PathBuf> {
    Ok(match &cli.dir {
        Some(dir) => dir.clone(),
        None => target_dir()?.join("bench"),
    })
}

fn choose(only: &[String]) -> Result<Vec<Row>> {
    for name in only {
        ensure!(
            ROWS.iter().any(|row| row.name == name || row.id() == *name),
            "no row '{name}'; see --list"
        );
    }
    let is_chosen = |row: &&Row| {
        only.is_empty()
            || only
                .iter()
                .any(|name| row.name == name || row.id() == *name)
    };
    Ok(ROWS.iter().filter(is_chosen).copied().collect())
}

fn programs(cli: &Cli) -> Result<BTreeMap<Side, Program>> {
    let mut programs = BTreeMap::new();
    if !matches!(cli.side, Some(Only::Etcd)) {
        programs.insert(Side::Ours, coord(cli)?);
    }
    if !matches!(cli.side, Some(Only::Coord)) {
        let path = match &cli.etcd {
            Some(path) => path.clone(),
            None => built_etcd(&target_dir()?)?,
        };
        programs.insert(Side::Theirs, Program::find(Side::Theirs, &path)?);
    }
    Ok(programs)
}

/// Cargo's target directory, two above this executable.
fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(|profile| profile.parent());
    Ok(target
        .context("this program lies in no target directory")?
        .to_owned())
}
