//! One HTTP/1.1 request and its answer, for the pages beside the API.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than a server's own checks take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server's answer.
#[derive(Debug)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The rest as text: headers, an empty line, the body as it was sent.
    pub text: String,
}

impl Page {
    /// The body, if it was not sent in chunks.
    #[must_use]
    pub fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }
}

/// Sends a request without a body to `http://host:port` and reads until the server closes.
pub async fn request(method: &str, endpoint: &str, path: &str) -> Result<Page> {
    tokio::time::timeout(PATIENCE, exchange(method, endpoint, path))
        .await
        .context("no answer in time")?
}

async fn exchange(method: &str, endpoint: &str, path: &str) -> Result<Page> {
    let host = endpoint
        .strip_prefix("http://")
        .context("only plain HTTP")?;
    let mut stream = TcpStream::connect(host).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text
        .split_whitespace()
        .nth(1)
        .context("an answer starts with a status line")?;
    Ok(Page {
        status: status
            .parse()
            .with_context(|| format!("status {status:?}"))?,
        text,
    })
}
