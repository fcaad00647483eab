//! `coord-simulation`: runs one seed here, or many in processes of their own.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use coord_simulation::seeds::{self, Campaign};
use coord_simulation::world;
use coord_simulation::wrong::{Sabotage, Wrong};
use coord_simulation::{host, interpose};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// As in the server; and a tenth of a run is spent here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulates whole clusters from seeds. With --hours many runs, from --seed on; without, the one run of that seed.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The seed, or the first of many
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many hours to simulate, in all
    #[arg(long)]
    hours: Option<f64>,
    /// End after this many real minutes
    #[arg(long, default_value_t = f64::from(u16::MAX))]
    minutes: f64,
    /// Processes at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Say only what failed, and the sum
    #[arg(long)]
    quiet: bool,
    /// With --hours: stop at the first failure
    #[arg(long)]
    search: bool,
    /// Print what members log at this level or above, with virtual times: debug, info, warn, coord_server::raft=trace
    #[arg(long)]
    log: Option<String>,
    /// Plant a fault in the simulation itself, that must be found
    #[arg(long)]
    sabotage: Option<Sabotage>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let wrong = match Wrong::here(cli.sabotage) {
        Ok(wrong) => wrong,
        Err(error) => {
            eprintln!("coord-simulation: {error}");
            return ExitCode::FAILURE;
        }
    };
    match cli.hours {
        None => one(&cli, wrong),
        Some(hours) => many(&cli, wrong, hours),
    }
}

fn one(cli: &Cli, wrong: Wrong) -> ExitCode {
    if let Some(log) = &cli.log {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(log))
            .event_format(Line)
            .with_writer(std::io::stderr)
            .init();
    }
    let seed = cli.seed;
    let replay = seeds::replay(seed, wrong);
    let told = replay.clone();
    // A member that panics would end; the runtime only ends its task.
    std::panic::set_hook(Box::new(move |panic| {
        let host = host::running();
        eprintln!(
            "seed {seed} FAILED: {host} at {}: {panic}\nreplay: {told}",
            interpose::seconds()
        );
        std::process::exit(101);
    }));
    match world::run(seed, wrong) {
        Ok(outcome) => {
            let taken = interpose::processor_seconds();
            let simulated = outcome.simulated.as_secs_f64();
            let line = seeds::line(seed, simulated, taken, outcome.answered, outcome.trace.0);
            println!("{line}");
            if cli.log.is_some() {
                eprintln!(
                    "{} events, {} starts of members; {}; {:.0} virtual seconds in a second of a processor",
                    outcome.trace.1,
                    outcome.starts,
                    outcome.faults,
                    simulated / taken
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("seed {seed} FAILED {error:#}\nreplay: {replay}");
            ExitCode::FAILURE
        }
    }
}

fn many(cli: &Cli, wrong: Wrong, hours: f64) -> ExitCode {
    let campaign = Campaign {
        first: cli.seed,
        simulated: Duration::from_secs_f64(hours * 3600.0),
        real_max: Duration::from_secs_f64(cli.minutes * 60.0),
        jobs: cli.jobs,
        wrong,
        is_search: cli.search,
    };
    let is_quiet = cli.quiet;
    let said = |line: &str| {
        if !is_quiet || line.contains("FAILED") {
            println!("{line}");
        }
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("coord-simulation: {error}");
            return ExitCode::FAILURE;
        }
    };
    match seeds::run(&program, campaign, said) {
        Ok(report) => {
            println!(
                "{} runs from seed {}: {:.2} hours simulated, {:.0} virtual seconds in a second of a processor, {} calls \
                 answered, {} failed",
                report.runs,
                cli.seed,
                report.simulated / 3600.0,
                report.simulated / report.taken.max(1e-9),
                report.answered,
                report.failed.len()
            );
            for (seed, _) in &report.failed {
                println!("replay: {}", seeds::replay(*seed, wrong));
            }
            ExitCode::from(u8::from(!report.failed.is_empty()))
        }
        Err(error) => {
            eprintln!("coord-simulation: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A log line: virtual time, host, level, what.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let host = host::running();
        let host = if host.is_empty() { "-" } else { &host };
        let level = event.metadata().level();
        write!(writer, "{:>12} {host:<8} {level:<5} ", interpose::seconds())?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
