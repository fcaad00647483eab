//! `coord-server`: reads the command line and runs one member until it is told to stop.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use coord_server::cli::{self, CheckWords, Invocation};
use coord_server::config::{Config, LogOutput, Logging};
use coord_server::node::check::{self, Check};
use coord_server::node::{Node, Stop, memory};
use coord_server::telemetry::{self, Output, Outputs, Rotation, Shape};
use tokio::signal::unix::{SignalKind, signal};

/// A request takes some dozens of small pieces of memory, and what one thread takes another gives back: with the C
/// library's allocator that is a sixth of all processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that wait for disks and look-ups. Each keeps some memory of its own, so that a small machine has fewer.
fn waiting_threads() -> usize {
    const EACH_BYTES: u64 = 32 << 20;
    let threads = memory::available_bytes() / EACH_BYTES;
    usize::try_from(threads).unwrap_or(usize::MAX).clamp(8, 32)
}

/// How long work that blocks may hold up the end of the process.
const LOOK_UPS_MAX: Duration = Duration::from_millis(200);
/// The exit code of Go programs on a wrong flag.
const EXIT_USAGE: u8 = 2;

pub(crate) fn main() -> ExitCode {
    let kept = keep_memory_in_small_pages();
    let (invocation, warnings) = match cli::parse(std::env::args().skip(1), std::env::vars()) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    let settings = match invocation {
        Invocation::Print(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Invocation::Check(asked) => return check(asked),
        Invocation::Serve(settings) => settings,
    };
    let config = match Config::resolve(&settings) {
        Ok(config) => config,
        Err(error) => return usage(&error.to_string()),
    };
    if let Err(error) = start_logging(&config.logging) {
        return usage(&format!("--log-outputs: {error}"));
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = kept {
        tracing::warn!(%error, "the kernel may give huge pages: more memory is taken than is used");
    }
    raise_descriptor_limit();
    // One thread carries clients, Raft and peers: a hand-over between threads costs more than the work it moves.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(waiting_threads())
        .build()
        .expect("the runtime needs epoll");
    let ended = runtime.block_on(serve(config));
    // Names that are being looked up wait for servers that may not answer; nobody needs the address any more.
    runtime.shutdown_timeout(LOOK_UPS_MAX);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Usage(invalid)) => usage(&invalid.to_string()),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(logging: &Logging) -> std::io::Result<()> {
    let Logging {
        level,
        is_console,
        outputs,
    } = logging;
    let outputs: Vec<_> = outputs.iter().map(output).collect();
    let shape = match is_console {
        true => Shape::Console,
        false => Shape::Json,
    };
    telemetry::start(level, shape, Outputs::open(&outputs)?);
    Ok(())
}

fn output(output: &LogOutput) -> Output {
    match output {
        LogOutput::Stderr => Output::Stderr,
        LogOutput::Stdout => Output::Stdout,
        LogOutput::File(path, rotation) => {
            let rotation = rotation.map(|rotation| Rotation {
                bytes_max: rotation.bytes_max,
                days_max: rotation.days_max,
                files_max: rotation.files_max,
                compresses: rotation.compresses,
            });
            Output::File(path.into(), rotation)
        }
    }
}

/// The allocator asks for huge pages and a member uses a part of each: 34 MB at rest instead of 23, 63 instead of 40 under
/// 64 readers, for the same processor time.
fn keep_memory_in_small_pages() -> Result<(), rustix::io::Errno> {
    rustix::thread::disable_transparent_huge_pages(true)
}

/// Shells and service managers start programs with a small limit and leave the large one to those that ask. Go's runtime
/// asks, so etcd never runs into the small one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn check(asked: CheckWords) -> ExitCode {
    let CheckWords {
        data_dir,
        json,
        dump_log,
    } = asked;
    let check = Check {
        data_dir,
        json,
        dump_log,
    };
    let panicking = check.clone();
    coord_server::disk::tell_panics(move |why| {
        let told = check::panicked(&panicking, why, &mut std::io::stdout());
        let status = told.map_or(EXIT_USAGE, check::Verdict::status);
        std::process::exit(status.into());
    });
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let checked = check::run(&check, &mut out, &mut std::io::stderr());
    match checked.and_then(|verdict| out.flush().map(|()| verdict)) {
        Ok(verdict) => ExitCode::from(verdict.status()),
        Err(error) => usage(&format!("the result cannot be written: {error}")),
    }
}

fn usage(error: &str) -> ExitCode {
    eprintln!("coord-server: {error}");
    ExitCode::from(EXIT_USAGE)
}

async fn serve(config: Config) -> Result<(), Stop> {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    let asked = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut asked = std::pin::pin!(asked);
    // Waiting to be added to a cluster may take for ever, so it can be interrupted too.
    let node = tokio::select! {
        node = Node::start(config) => node?,
        () = &mut asked => return Ok(()),
    };
    node.run_until(asked).await
}
