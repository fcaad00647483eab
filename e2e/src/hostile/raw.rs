//! HTTP/2, frame by frame (RFC 9113): any frames, in any order.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// The first bytes of an HTTP/2 client.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Well above every deadline of a server, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(90);

/// Kinds of frames.
pub mod kind {
    #![expect(missing_docs, reason = "RFC 9113, section 6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    #![expect(missing_docs, reason = "RFC 9113, section 6")]
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// A setting: the window that a stream begins with.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame's bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's frame is small");
    let [_, high, middle, low] = length.to_be_bytes();
    let mut bytes = vec![high, middle, low, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A SETTINGS frame.
#[must_use]
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(kind::SETTINGS, flag::NONE, 0, &payload)
}

/// A header as it may always be written: a new name, not to be remembered, not compressed (RFC 7541, 6.2.2).
#[must_use]
pub fn header(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name.as_bytes(), value] {
        integer(&mut bytes, text.len());
        bytes.extend(text);
    }
    bytes
}

/// A length in seven bits and more (RFC 7541, 5.1).
fn integer(bytes: &mut Vec<u8>, number: usize) {
    const FIRST_MAX: usize = 127;
    if number < FIRST_MAX {
        bytes.push(u8::try_from(number).expect("checked"));
        return;
    }
    bytes.push(127);
    let mut rest = number - FIRST_MAX;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("a remainder") | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("checked"));
}

/// The headers of a gRPC call.
#[must_use]
pub fn call_head(path: &str) -> Vec<u8> {
    [
        header(":method", b"POST"),
        header(":scheme", b"http"),
        header(":path", path.as_bytes()),
        header(":authority", b"test"),
        header("content-type", b"application/grpc"),
        header("te", b"trailers"),
    ]
    .concat()
}

/// A HEADERS frame that opens a call.
#[must_use]
pub fn open_call(stream: u32, path: &str) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &call_head(path))
}

/// A gRPC message: its prefix and its bytes.
#[must_use]
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a test's message is small");
    [&[0], &length.to_be_bytes()[..], bytes].concat()
}

/// A whole call with one request.
#[must_use]
pub fn call(stream: u32, path: &str, request: &impl prost::Message) -> Vec<u8> {
    let data = message(&request.encode_to_vec());
    [
        open_call(stream, path),
        frame(kind::DATA, flag::END_STREAM, stream, &data),
    ]
    .concat()
}

/// The way in which a server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It closed or reset the connection.
    Closed,
    /// It said GOAWAY, with an error, before it closed.
    GoAway(u32),
}

/// A frame that came in: kind, flags, stream, payload.
pub type Frame = (u8, u8, u32, Vec<u8>);

/// A connection. Nothing that comes in is read before a test asks for it.
pub struct Raw {
    out: OwnedWriteHalf,
    read: Option<OwnedReadHalf>,
    drained: Option<JoinHandle<End>>,
}

impl Raw {
    /// Connects, and says nothing.
    pub async fn connect(endpoint: &str) -> Result<Self> {
        Ok(Self::over(TcpStream::connect(authority(endpoint)?).await?))
    }

    /// As [`connect`](Self::connect), from another address than other clients.
    pub async fn connect_from(source: &str, endpoint: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source.parse()?, 0))?;
        let to = authority(endpoint)?.parse()?;
        Ok(Self::over(socket.connect(to).await?))
    }

    /// Connects and says what an HTTP/2 client must say.
    pub async fn open(endpoint: &str, with: &[(u16, u32)]) -> Result<Self> {
        let mut raw = Self::connect(endpoint).await?;
        let greeting = [
            PREFACE,
            &settings(with),
            // As if it had read the server's.
            &frame(kind::SETTINGS, flag::ACK, 0, &[]),
        ];
        raw.send(&greeting.concat()).await?;
        Ok(raw)
    }

    fn over(stream: TcpStream) -> Self {
        let (read, out) = stream.into_split();
        Self {
            out,
            read: Some(read),
            drained: None,
        }
    }

    /// Sends bytes. Errors: the server has closed, or takes nothing.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        tokio::time::timeout(PATIENCE, self.out.write_all(bytes))
            .await
            .context("the server takes nothing and closes nothing")??;
        Ok(())
    }

    /// Reads and forgets from now on.
    pub fn drain(&mut self) {
        if let Some(read) = self.read.take() {
            self.drained = Some(tokio::spawn(until_end(read)));
        }
    }

    /// The next frame; `None` when the server has closed.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        let read = self.read.as_mut().context("this connection is drained")?;
        let next = tokio::time::timeout(PATIENCE, read_frame(read));
        next.await.context("the server says and closes nothing")
    }

    /// Sends the same again and again until the server ends the connection.
    ///
    /// Errors: it has taken `bytes_max` and is still there.
    pub async fn flood(mut self, bytes: &[u8], bytes_max: usize) -> Result<End> {
        self.drain();
        let mut sent = 0;
        while sent < bytes_max {
            if self.send(bytes).await.is_err() {
                return self.end().await;
            }
            sent += bytes.len();
        }
        // It may be about to.
        self.end()
            .await
            .with_context(|| format!("it took {sent} bytes"))
    }

    /// Waits until the server ends the connection.
    pub async fn end(mut self) -> Result<End> {
        self.drain();
        let drained = self.drained.context("it is drained now")?;
        Ok(tokio::time::timeout(PATIENCE, drained)
            .await
            .context("the server does not close")??)
    }
}

/// Host and port of an endpoint.
pub fn authority(endpoint: &str) -> Result<&str> {
    endpoint.strip_prefix("http://").context("only plain HTTP")
}

async fn until_end(mut read: OwnedReadHalf) -> End {
    let mut end = End::Closed;
    while let Some((kind, _, _, payload)) = read_frame(&mut read).await {
        if kind == kind::GOAWAY
            && let Some(code) = payload.get(4..8)
        {
            let code = u32::from_be_bytes(code.try_into().expect("four bytes"));
            end = End::GoAway(code);
        }
    }
    end
}

/// `None` at the end, however it came.
async fn read_frame(read: &mut OwnedReadHalf) -> Option<Frame> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await.ok()?;
    let [high, middle, low, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    read.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, u32::from_be_bytes(stream), payload))
}
