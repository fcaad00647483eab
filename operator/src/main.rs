//! The operator's program: parses the command line and calls the library.

use clap::Parser;
use coord_operator::cli::{Cli, Command};

pub(crate) fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crds => {
            print!("{}", coord_operator::crd::yaml());
            Ok(())
        }
        Command::Explain(args) => runtime()?.block_on(coord_operator::explain::explain(&args)),
        Command::Run(args) => runtime()?.block_on(coord_operator::run::run(*args)),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}
