//! Runs other programs and turns their failure into a message that says which one, how, and what it printed.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command from its words: `cmd(["ip", "link", "show"])`.
///
/// # Panics
/// If `words` is empty.
pub fn cmd<W: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = W>) -> Command {
    let mut words = words.into_iter();
    let program = words.next().expect("a command has at least its program");
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs it to its end and returns what it printed on standard output.
///
/// Errors: it could not be started, or it failed; the message holds the last lines it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = if said.trim().is_empty() {
            String::from_utf8_lossy(&output.stdout)
        } else {
            said
        };
        bail!("{}: {}\n{}", line(command), output.status, tail(&said, 20));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Splits `line` at its spaces and runs it; for commands without spaces in an argument.
pub fn sh(line: &str) -> Result<String> {
    run(&mut cmd(line.split_whitespace()))
}

/// True if the command could be started and succeeded.
#[must_use]
pub fn succeeds(line: &str) -> bool {
    output(&mut cmd(line.split_whitespace())).is_ok_and(|output| output.status.success())
}

/// True if a program of this name is on `PATH`, or in the folders of administrators' programs.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .into_iter()
        .any(|folder| folder.join(program).is_file())
}

/// The last `lines` lines of `text`.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn output(command: &mut Command) -> Result<Output> {
    command
        .output()
        .with_context(|| format!("could not start {}", line(command)))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
