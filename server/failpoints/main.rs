//! `coord-server` with bugs put in on purpose; `coord_server::failpoints` says which. Never part of an image or a release.

use std::process::ExitCode;

#[path = "../src/main.rs"]
mod program;

fn main() -> ExitCode {
    program::main()
}
