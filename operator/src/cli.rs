//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

use crate::telemetry::LogFormat;
use crate::validate::ServerImage;

/// The operator that runs Coord clusters on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "coord-operator", version, about)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch CoordClusters and keep them as they say.
    Run(Box<RunArgs>),
    /// Print what the operator sees of one CoordCluster and what it would do next, as JSON; touches nothing.
    Explain(ExplainArgs),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
}

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The CoordCluster's name.
    pub name: String,
    /// Its namespace.
    #[arg(long, short, default_value = "default")]
    pub namespace: String,
    /// As for `run`: what a cluster gets whose image is not recorded yet.
    #[command(flatten)]
    pub images: ImageArgs,
}

/// The images that an operator hands out.
#[derive(Clone, Debug, Args)]
pub struct ImageArgs {
    /// The server image of clusters that set spec.version, without tag.
    #[arg(
        long,
        env = "COORD_SERVER_IMAGE_REPOSITORY",
        default_value = "coord.dev/coord-server"
    )]
    pub server_image_repository: String,
    /// The tag for new clusters that set neither spec.version nor spec.image.
    #[arg(long, env = "COORD_SERVER_IMAGE_TAG", default_value = env!("CARGO_PKG_VERSION"))]
    pub server_image_tag: String,
}

impl From<ImageArgs> for ServerImage {
    fn from(args: ImageArgs) -> Self {
        Self {
            repository: args.server_image_repository,
            tag: args.server_image_tag,
        }
    }
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Namespaces to watch; all of them if none is given.
    #[arg(
        long = "watch-namespace",
        env = "COORD_WATCH_NAMESPACES",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,
    /// The images of new clusters.
    #[command(flatten)]
    pub images: ImageArgs,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "COORD_HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_address: SocketAddr,
    /// Act only while holding a Lease, so that several operators may run.
    #[arg(long, env = "COORD_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// The Lease's namespace; by default the pod's own.
    #[arg(long, env = "COORD_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// The Lease's name.
    #[arg(long, env = "COORD_LEASE_NAME", default_value = "coord-operator")]
    pub lease_name: String,
    /// This process's name among operators; by default the host's name.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// debug, info, warn, error, or a filter such as info,kube=debug.
    #[arg(long, env = "COORD_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// How logs look.
    #[arg(long, env = "COORD_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// When this process ends or stops itself, for fault tests.
    #[cfg(feature = "failpoints")]
    #[command(flatten)]
    pub failpoints: Failpoints,
}

/// When a process ends or stops itself: in `coord-operator-failpoints` only, which no image holds.
#[cfg(feature = "failpoints")]
#[derive(Clone, Debug, Default, Args)]
pub struct Failpoints {
    /// End the process right after this many writes.
    #[arg(long)]
    pub exit_after_writes: Option<u64>,
    /// Stop the process (SIGSTOP) before each step of this name, such as RemoveMember: written down, nothing of it sent.
    #[arg(long)]
    pub pause_before_step: Option<String>,
}
