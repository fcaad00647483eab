use std::fmt;

/// A call that was not answered with a message.
#[derive(Debug)]
pub enum CallError {
    /// The connection broke or the stream was reset.
    Transport(h2::Error),
    /// The server said no: gRPC's code and message.
    Status {
        /// gRPC status code, never 0.
        code: u32,
        /// The server's words, percent-encoded as they came.
        message: String,
    },
    /// The bytes were not what gRPC allows here.
    Malformed(&'static str),
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        Self::Transport(error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => write!(out, "connection: {error}"),
            Self::Status { code, message } => write!(out, "status {code}: {message}"),
            Self::Malformed(what) => write!(out, "malformed answer: {what}"),
        }
    }
}

impl std::error::Error for CallError {}

/// Checks `grpc-status` in trailers, or in the headers of an answer that has nothing else. Absent is `Ok(false)`.
pub(super) fn check_status(headers: &http::HeaderMap) -> Result<bool, CallError> {
    let Some(status) = headers.get("grpc-status") else {
        return Ok(false);
    };
    if status == "0" {
        return Ok(true);
    }
    let code = status
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(CallError::Malformed("grpc-status is not a number"))?;
    let message = headers
        .get("grpc-message")
        .and_then(|text| text.to_str().ok())
        .unwrap_or_default();
    Err(CallError::Status {
        code,
        message: message.to_owned(),
    })
}
