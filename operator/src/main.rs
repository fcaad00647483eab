//! The operator's program: parses the command line and calls the library.

use clap::Parser;
use coord_operator::cli::{Cli, Command};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crds => {
            print!("{}", coord_operator::crd::yaml());
            Ok(())
        }
        Command::Run(args) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(coord_operator::run::run(*args))
        }
    }
}
