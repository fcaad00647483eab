//! `coord-operator` that can end or stop itself after a given number of writes. Never part of an image or a release.

#[path = "../src/main.rs"]
mod program;

fn main() -> anyhow::Result<()> {
    program::main()
}
