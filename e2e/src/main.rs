//! `coord-e2e`: the door to the local Kubernetes and to Coord's images. `make` calls it, and so may you.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use coord_e2e::local_kubernetes::steps::Steps;
use coord_e2e::local_kubernetes::{Instance, InstanceName, supervise};
use coord_e2e::robust::campaign;
use coord_e2e::robust::scenario::Scenario;
use coord_e2e::{demo, product};

#[derive(Parser)]
#[command(
    name = "coord-e2e",
    about = "A local Kubernetes for Coord, and Coord's images",
    version
)]
struct Cli {
    /// The local Kubernetes; each name is one of its own
    #[arg(long, global = true, env = "COORD_INSTANCE", default_value = demo::DEFAULT_INSTANCE)]
    instance: InstanceName,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Only install the packages and build the programs that a Kubernetes needs, which takes minutes the first time
    Programs,
    /// Bring only the Kubernetes up; does what is missing, so run it again after an interruption
    Up,
    /// Bring everything up: the Kubernetes, the operator, a cluster of three; uses the one of KUBECONFIG if that is set
    Demo {
        /// Cargo's profile
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Take it down and leave nothing behind
    Down,
    /// Say what runs
    Status,
    /// Kill, start, cut off or heal a node
    Node {
        /// The action
        action: NodeAction,
        /// n1, n2 or n3
        node: String,
    },
    /// Kill the API server, which comes back by itself
    KillApiServer,
    /// Build the images of server and operator into target/images
    Image {
        /// Cargo's profile
        #[arg(long, default_value = "release")]
        profile: String,
        /// Load them into the nodes as well
        #[arg(long)]
        load: bool,
    },
    /// Fault runs on clusters of processes, one scenario after the other; needs root
    Robust {
        /// How long; a run that has begun is finished
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Only this scenario
        #[arg(long, value_enum)]
        only: Option<Scenario>,
        /// The seed of the first run; the next ones follow
        #[arg(long, default_value_t = rand::random_range(1..1_000_000))]
        seed: u64,
    },
    /// Look for each bug planted in a server of its own, and print which were found; needs root
    Failpoints {
        /// Only this bug
        #[arg(long)]
        only: Option<String>,
        /// The seed of the first run; the next ones follow
        #[arg(long, default_value_t = rand::random_range(1..1_000_000))]
        seed: u64,
    },
    /// Judge what a fault run saw once more
    Judge {
        /// The record that the run left
        file: PathBuf,
    },
    /// The first process of a machine; only `up` calls it
    #[command(hide = true)]
    Machine { spec: PathBuf },
}

#[derive(Clone, Copy, ValueEnum)]
enum NodeAction {
    /// Power loss: everything it runs is gone, its disks stay
    Kill,
    /// Power on again
    Start,
    /// Take its link down: it runs on and nobody hears it
    Cut,
    /// Take its link up again
    Heal,
}

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coord-e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> Result<()> {
    let instance = Instance::named(cli.instance);
    match cli.command {
        Command::Programs => Instance::prepare(&mut Steps::new(2)).map(drop),
        Command::Up => up(&instance),
        Command::Demo { profile } => demo::up(instance, &profile),
        Command::Down => down(&instance),
        Command::Status => status(&instance),
        Command::Node { action, node } => {
            let node = instance.node(&node)?;
            match action {
                NodeAction::Kill => node.kill(),
                NodeAction::Start => node.start(),
                NodeAction::Cut => node.cut(),
                NodeAction::Heal => node.heal(),
            }
        }
        Command::KillApiServer => instance.kill_api_server(),
        Command::Image { profile, load } => {
            let images = product::build_images(&profile)?;
            for archive in [&images.server, &images.operator] {
                println!("{}  {}", archive.reference, archive.file.display());
                if load {
                    instance.import_image(archive)?;
                }
            }
            Ok(())
        }
        Command::Robust {
            minutes,
            only,
            seed,
        } => campaign::campaign(Duration::from_secs(minutes * 60), only, seed),
        Command::Failpoints { only, seed } => campaign::hunt_all(only.as_deref(), seed),
        Command::Judge { file } => campaign::judge(&file),
        Command::Machine { spec } => supervise::run(&spec),
    }
}

fn up(instance: &Instance) -> Result<()> {
    let name = &instance.layout().name;
    Instance::up(&name.to_string())?;
    println!("export KUBECONFIG={}", instance.kubeconfig().display());
    println!("export PATH={}:$PATH", instance.layout().bin().display());
    Ok(())
}

fn down(instance: &Instance) -> Result<()> {
    let name = &instance.layout().name;
    let was_there = instance.down()?;
    eprintln!(
        "instance {name}: {}",
        if was_there { "gone" } else { "was not there" }
    );
    Ok(())
}

fn status(instance: &Instance) -> Result<()> {
    let name = &instance.layout().name;
    ensure!(
        instance.exists()?,
        "instance {name} is not there: bring it up with coord-e2e up"
    );
    let mut text = String::new();
    for node in instance.nodes() {
        let power = if node.is_running()? {
            "running"
        } else {
            "killed"
        };
        let link = if node.is_cut()? { "cut off" } else { "linked" };
        writeln!(text, "{}  {}  {power}  {link}", node.name(), node.zone())?;
    }
    if let Some(bytes) = instance.memory_bytes() {
        writeln!(text, "memory: {} MB", bytes / 1_000_000)?;
    }
    writeln!(text, "kubeconfig: {}", instance.kubeconfig().display())?;
    text += &instance.kubectl("get nodes,pods --all-namespaces --request-timeout=5s")?;
    // A reader that has seen enough ("| head") is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
