//! Ways to a member, with and without TLS: etcdctl and plain sockets.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::programs;

/// The time that a member has for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn etcdctl(endpoint: &str, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(programs::etcdctl()?);
    command
        .arg(format!("--endpoints={endpoint}"))
        .args(["--dial-timeout=2s", "--command-timeout=4s"])
        .args(words)
        .stdin(Stdio::null());
    Ok(command.output()?)
}

pub(crate) async fn succeeds(endpoint: &str, words: &[&str]) -> Result<String> {
    let (endpoint, words) = (endpoint.to_owned(), words.join("\n"));
    let output = tokio::task::spawn_blocking(move || {
        etcdctl(&endpoint, &words.split('\n').collect::<Vec<_>>())
    })
    .await??;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) async fn fails(endpoint: &str, words: &[&str]) -> Result<()> {
    ensure!(
        succeeds(endpoint, words).await.is_err(),
        "etcdctl was let in with {words:?}"
    );
    Ok(())
}

/// A server's answer to plain HTTP/1.1.
pub(crate) fn plain_request(authority: &str, path: &str) -> Result<String> {
    let mut stream = connect(authority)?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut said = String::new();
    // A reset after the answer ends it as well as a close does.
    let _ = stream.read_to_string(&mut said);
    Ok(said)
}

pub(crate) fn connect(authority: &str) -> Result<TcpStream> {
    let address = authority.to_socket_addrs()?.next().context("no address")?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Resident bytes of a process.
pub(crate) fn resident(process: u32) -> Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .context("statm has fields")?
        .parse()?;
    Ok(pages * 4096)
}
