//! The methods that clients may call, read from the `.proto` files when they are compiled: what routes, metrics and limits
//! go by.

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// `package.Service`.
    pub service: &'static str,
    /// The method's own name.
    pub name: &'static str,
    /// Whether the request is a stream.
    pub client_streaming: bool,
    /// Whether the response is a stream.
    pub server_streaming: bool,
    /// The paths that it is posted to over HTTP, with its request as JSON; may be none.
    pub posts: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));
