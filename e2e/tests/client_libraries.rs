//! Client libraries of other languages, used as their users do: a program sees the same at a real etcd and at Coord.
//!
//! The programs of `e2e/clients` say on each line what they saw, revisions and texts of refusals included, and leave out what a
//! server is free to choose. In the middle of a session its member is killed and started again.
//!
//! Node's and Java's are left out where these are not installed; with `COORD_CLIENTS=all`, as `make clients` sets it, that is a
//! failure.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::programs;
use coord_e2e::cluster::process::Program;
use coord_e2e::cluster::{Cluster, Kind, claims};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[allow(dead_code, reason = "it can also revoke, which is tested elsewhere")]
#[path = "api_tls/authority.rs"]
mod authority;

use authority::{Authority, shown};

/// Beside the plain port, on the same address.
const TLS_PORT: u16 = 2381;
/// bcrypt at its cheapest: what passwords cost is not compared.
const FLAGS: [(&str, &str); 1] = [("bcrypt-cost", "4")];
/// Asks for a new start of the member, and waits for a line.
const RESTART: &str = "restart";
/// Said by a program that did all it has to do.
const END: &str = "the end";
/// Fewer lines are no session.
const LINES_MIN: usize = 50;

/// A member with a plain port and one with TLS, and the file of the authority that signed its certificate.
async fn member(program: Option<PathBuf>) -> Result<(Cluster, [String; 3])> {
    let mut cluster = Cluster::new(Kind::Processes(1), &FLAGS)?;
    if program.is_some() {
        cluster.set_flag(0, "unsafe-no-fsync", "true");
        cluster.set_program(Program {
            path: program,
            ..Program::default()
        });
    }
    let plain = cluster.endpoint(0);
    let address = plain.trim_start_matches("http://").to_owned();
    let host = address.split(':').next().unwrap_or_default();
    let secure = format!("{host}:{TLS_PORT}");
    let authority = Authority::new(cluster.directory(), "ours")?;
    let pair = authority.issue("server", &[host], 1, 4000)?;
    cluster.set_flag(0, "cert-file", &shown(&pair.cert));
    cluster.set_flag(0, "key-file", &shown(&pair.key));
    let both = format!("{plain},https://{secure}");
    cluster.set_flag(0, "listen-client-urls", &both);
    cluster.spawn(0)?;
    cluster.ready(0).await?;
    Ok((cluster, [address, secure, authority.ca()]))
}

/// Runs a program against a member of its own, and returns its lines.
async fn session(server: Option<PathBuf>, program: Command) -> Result<Vec<String>> {
    let (mut cluster, arguments) = member(server).await?;
    let errors = cluster.directory().join("errors");
    let mut running = tokio::process::Command::from(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&errors)?)
        .kill_on_drop(true)
        .spawn()?;
    let mut input = running.stdin.take().context("it was piped")?;
    let output = running.stdout.take().context("it was piped")?;
    let mut output = BufReader::new(output).lines();
    let mut said = Vec::new();
    while let Some(line) = output.next_line().await? {
        if line.trim_end() == RESTART {
            cluster.kill(0).await?;
            cluster.spawn(0)?;
            cluster.ready(0).await?;
            input.write_all(b"\n").await?;
        }
        said.push(line.trim_end().to_owned());
    }
    let status = running.wait().await?;
    ensure!(
        status.success() && said.last().is_some_and(|line| line == END),
        "{status}\n{}\n{}",
        said.join("\n"),
        std::fs::read_to_string(&errors)?
    );
    Ok(said)
}

/// Errors: the first line that differs, with the one before it.
fn same(etcd: &[String], coord: &[String]) -> Result<()> {
    let longest = etcd.len().max(coord.len());
    let line = |lines: &[String], number: usize| lines.get(number).cloned().unwrap_or_default();
    for number in 0..longest {
        let (one, other) = (line(etcd, number), line(coord, number));
        let before = number.checked_sub(1).map(|before| line(etcd, before));
        ensure!(
            one == other,
            "after {before:?}\n  etcd:  {one}\n  coord: {other}"
        );
    }
    Ok(())
}

fn sees_the_same(program: impl Fn() -> Result<Command>) {
    // Installed before the clock of the claim runs.
    let programs = program().and_then(|one| Ok((one, program()?, programs::etcd()?)));
    claims::run(async {
        let (one, other, etcd) = programs?;
        let (etcd, coord) = tokio::join!(session(Some(etcd), one), session(None, other));
        let (etcd, coord) = (etcd.context("etcd")?, coord.context("coord")?);
        same(&etcd, &coord)?;
        println!("{} lines alike", etcd.len());
        assert!(etcd.len() > LINES_MIN, "{etcd:?}");
        Ok(())
    });
}

/// Whether to go on without these programs: not where all of them are asked for.
fn are_left_out(programs: &[&str]) -> bool {
    let is_left_out = std::env::var_os("COORD_CLIENTS").is_none_or(|which| which != "all")
        && !programs::are_there(programs);
    if is_left_out {
        println!("left to make clients: {programs:?} are not installed");
    }
    is_left_out
}

#[test]
fn the_library_of_python_sees_the_same() {
    sees_the_same(|| programs::python("session.py"));
}

#[test]
fn the_library_of_rust_sees_the_same() {
    sees_the_same(programs::rust);
}

#[test]
fn the_library_of_node_sees_the_same() {
    if !are_left_out(&["node", "npm"]) {
        sees_the_same(|| programs::node("session.js"));
    }
}

#[test]
fn the_library_of_java_sees_the_same() {
    if !are_left_out(&["java", "mvn"]) {
        sees_the_same(|| programs::java("Session.java"));
    }
}

#[test]
fn a_line_that_differs_is_named() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert!(same(&lines("a b c"), &lines("a b c")).is_ok());
    for (etcd, coord) in [("a b c", "a x c"), ("a b", "a"), ("a", "a x")] {
        let error = same(&lines(etcd), &lines(coord)).unwrap_err().to_string();
        assert!(error.contains("after Some(\"a\")"), "{error}");
    }
}
