use anyhow::{Context, Result};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderValue, Method, Request, Uri, Version, header};
use prost::Message;
use tokio::net::TcpStream;

use super::error::check_status;
use super::frame::{self, Inbox};
use super::stream::{Incoming, Outgoing};
use super::{CallError, Rpc};

/// Big enough that no answer of the benchmark ever waits for a window update.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// One HTTP/2 connection to one member; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    /// By `Rpc as usize`; cloning a parsed URI is cheaper than parsing it for every call.
    uris: std::sync::Arc<Vec<Uri>>,
}

impl Connection {
    /// Connects to `127.0.0.1:port`; a task of the current runtime drives the connection until it closes.
    pub async fn open(port: u16) -> Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))
            .await
            .with_context(|| format!("connect to 127.0.0.1:{port}"))?;
        socket.set_nodelay(true)?;
        let (sender, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(socket)
            .await?;
        // How it ended shows in the calls that were on it.
        tokio::spawn(connection);
        let uris = Rpc::ALL
            .iter()
            .map(|rpc| format!("http://127.0.0.1:{port}{}", rpc.path()).parse())
            .collect::<Result<_, _>>()?;
        let uris = std::sync::Arc::new(uris);
        Ok(Self { sender, uris })
    }

    fn request(&self, rpc: Rpc) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uris[rpc as usize].clone();
        let headers = request.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        request
    }

    /// One request, one answer.
    pub async fn call<Answer: Message + Default>(
        &self,
        rpc: Rpc,
        message: &impl Message,
    ) -> Result<Answer, CallError> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut outgoing) = sender.send_request(self.request(rpc), false)?;
        outgoing.send_data(frame::encode(message), true)?;
        let response = response.await?;
        let (parts, mut body) = response.into_parts();
        check_status(&parts.headers)?;
        let mut inbox = Inbox::default();
        while let Some(bytes) = body.data().await {
            let bytes = bytes?;
            body.flow_control().release_capacity(bytes.len())?;
            inbox.push(&bytes);
        }
        if let Some(trailers) = body.trailers().await? {
            check_status(&trailers)?;
        }
        let message = inbox.pop()?.ok_or(CallError::Malformed("no message"))?;
        Answer::decode(message).map_err(|_| CallError::Malformed("not protobuf"))
    }

    /// Opens a stream with its first message, which is also the last with `half_close`. The answers may begin only
    /// when the server has something to say.
    pub async fn stream(
        &self,
        rpc: Rpc,
        first: &impl Message,
        half_close: bool,
    ) -> Result<(Outgoing, Incoming), CallError> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut outgoing) = sender.send_request(self.request(rpc), false)?;
        outgoing.send_data(frame::encode(first), half_close)?;
        Ok((Outgoing::new(outgoing), Incoming::new(response)))
    }
}
