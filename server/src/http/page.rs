//! Answers over plain HTTP.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

/// An answer to plain HTTP.
pub type Page = Response<Full<Bytes>>;

const NO_SNIFF: (HeaderName, HeaderValue) = (
    header::X_CONTENT_TYPE_OPTIONS,
    HeaderValue::from_static("nosniff"),
);

/// A refusal in plain words, as Go's `http.Error` writes it.
pub(super) fn refused_in_words(status: StatusCode, words: &str) -> Page {
    let mut refused = Response::new(Full::new(Bytes::from(format!("{words}\n"))));
    *refused.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    refused.headers_mut().insert(header::CONTENT_TYPE, kind);
    refused.headers_mut().insert(NO_SNIFF.0, NO_SNIFF.1);
    refused
}
