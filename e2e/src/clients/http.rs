//! One HTTP/1.1 request and its answer, for the pages beside the API and for its gateway.

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
        self.parts().1
    }

    /// The body, whether it was sent in chunks or not; of a broken one what there is.
    #[must_use]
    pub fn whole_body(&self) -> String {
        let (_, body) = self.parts();
        match self.header("transfer-encoding") {
            Some(_) => unchunked(body),
            None => body.to_owned(),
        }
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.parts().0.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(':'));
        let (_, value) = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }

    fn parts(&self) -> (&str, &str) {
        self.text.split_once("\r\n\r\n").unwrap_or((&self.text, ""))
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let end = size.min(after.len());
        body.push_str(after.get(..end).unwrap_or_default());
        rest = after.get(end + 2..).unwrap_or_default();
    }
    body
}

/// A request beyond its path, and how much of the answer is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Beside those that every request has; a `Host` takes the place of the endpoint's.
    pub headers: &'a [(&'a str, &'a str)],
    /// Sent as it is.
    pub body: &'a str,
    /// Reads no further than `lines` of the body; 0 reads until the server closes.
    pub lines: usize,
}

/// Sends a request without a body to `http://host:port` and reads until the server closes.
pub async fn request(method: &str, endpoint: &str, path: &str) -> Result<Page> {
    ask(method, endpoint, path, Ask::default()).await
}

/// Sends a request to `http://host:port`.
pub async fn ask(method: &str, endpoint: &str, path: &str, ask: Ask<'_>) -> Result<Page> {
    tokio::time::timeout(PATIENCE, exchange(method, endpoint, path, ask))
        .await
        .context("no answer in time")?
}

async fn exchange(method: &str, endpoint: &str, path: &str, ask: Ask<'_>) -> Result<Page> {
    let host = endpoint
        .strip_prefix("http://")
        .context("only plain HTTP")?;
    let mut stream = TcpStream::connect(host).await?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !ask.headers.iter().any(|(name, _)| *name == "Host") {
        head.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in ask.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let Ask { body, lines, .. } = ask;
    head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await? > 0 {
        // A line of JSON ends where the next chunk does.
        let seen = bytes.windows(2).filter(|pair| pair == b"}\n").count();
        if lines > 0 && seen >= lines {
            break;
        }
    }
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
