//! The words of a refusal by the front: the door's, and Go's for those of tonic.

use tonic::body::Body;
use tonic::{Code, Status};

/// A door's words for what the front refuses on its behalf.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// There is no room for another call, or for what it brings.
    pub too_many: fn() -> Status,
    /// A request did not come whole in time.
    pub late: fn() -> Status,
}

/// The answer to a request that could not be received, in the words of Go's gRPC: tonic calls a message above the limit
/// out of range, which etcd's clients take for a compacted revision.
pub fn received(status: Status) -> Status {
    let sizes = status
        .message()
        .strip_prefix("Error, decoded message length too large: found ")
        .and_then(|rest| rest.split_once(" bytes, the limit is: "))
        .and_then(|(found, limit)| Some((found, limit.strip_suffix(" bytes")?)));
    match sizes {
        Some((found, limit)) => too_large(found, limit),
        None => status,
    }
}

/// A message is larger than allowed, in the words of Go's gRPC.
pub(super) fn too_large(bytes: impl std::fmt::Display, max: impl std::fmt::Display) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({bytes} vs. {max})"
    ))
}

/// A refusal of tonic's, in Go's words.
pub(super) fn in_go_words(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => received(status).into_http(),
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_above_the_limit_is_refused_as_go_does() {
        let text = "Error, decoded message length too large: found 3 bytes, the limit is: 2 bytes";
        let response = in_go_words(Status::out_of_range(text).into_http());
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (3 vs. 2)"
        );
        let response = in_go_words(Status::out_of_range("etcdserver: other").into_http());
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::OutOfRange);
    }
}
