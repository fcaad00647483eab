//! Access over plain HTTP: the hosts that a request may name, and the web pages whose scripts may read answers.
//!
//! Both are about browsers: a page of a stranger must not make somebody's browser ask a member that only that browser can
//! reach. Source: etcd `embed/serve.go`, CVE-2018-5702.

use std::collections::BTreeSet;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;

use super::page::{Page, refused_in_words};

const ANY: &str = "*";
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("accept, content-type, authorization");

/// The mark of a request over TLS: a browser has looked at the host's certificate then.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsSecure;

/// Hosts and origins that are let in. An empty list allows everything, as one with `*` does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Origins whose scripts may read answers.
    pub origins: BTreeSet<String>,
    /// Hosts that a request without TLS may name.
    pub hosts: BTreeSet<String>,
}

impl Access {
    /// The answer to a request that is answered before anybody looks at what it asks.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Page> {
        let is_secure = request.extensions().get::<IsSecure>().is_some();
        let host = host(request);
        if !is_secure && !allows(&self.hosts, host) {
            tracing::warn!(
                host,
                "rejecting HTTP request to prevent DNS rebinding attacks"
            );
            let status = StatusCode::MISDIRECTED_REQUEST;
            return Some(refused_in_words(status, &misdirected(host)));
        }
        (request.method() == http::Method::OPTIONS).then(|| {
            let mut fine = Response::new(Full::default());
            self.origin(request.headers()).mark(fine.headers_mut());
            fine
        })
    }

    /// The origin whose scripts may read the answer to a request of these headers.
    pub(super) fn origin(&self, headers: &HeaderMap) -> Origin {
        if allows(&self.origins, ANY) {
            return Origin(Some(HeaderValue::from_static(ANY)));
        }
        let origin = headers.get(header::ORIGIN);
        let text = origin.and_then(|origin| origin.to_str().ok());
        let is_allowed = text.is_some_and(|origin| self.origins.contains(origin));
        Origin(origin.filter(|_| is_allowed).cloned())
    }
}

/// The origin whose scripts may read an answer, if any may.
pub(super) struct Origin(Option<HeaderValue>);

impl Origin {
    /// Says so in an answer's headers.
    pub(super) fn mark(self, headers: &mut HeaderMap) {
        let Some(origin) = self.0 else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    }
}

fn allows(list: &BTreeSet<String>, one: &str) -> bool {
    list.is_empty() || list.contains(ANY) || list.contains(one)
}

/// The host that a request names, without its port.
fn host<B>(request: &Request<B>) -> &str {
    if let Some(host) = request.uri().host() {
        return host;
    }
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.trim_start_matches('[').trim_end_matches(']')
        }
        _ => host,
    }
}

/// etcd's words.
fn misdirected(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn request(host: &str, origin: &str) -> Request<()> {
        Request::get("/health")
            .header("host", host)
            .header("origin", origin)
            .body(())
            .unwrap()
    }

    #[test]
    fn a_host_that_is_not_on_the_list_is_misdirected_unless_it_came_over_tls() {
        let access = Access {
            hosts: list(&["good", "::1"]),
            ..Access::default()
        };
        for fine in ["good", "good:2379", "[::1]:2379"] {
            assert!(access.answer(&request(fine, "")).is_none(), "{fine}");
        }
        let mut bad = request("bad:1", "");
        let refused = access.answer(&bad).unwrap();
        assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST);
        bad.extensions_mut().insert(IsSecure);
        assert!(access.answer(&bad).is_none());
        for list in [list(&[]), list(&["*", "good"])] {
            let access = Access {
                hosts: list,
                ..Access::default()
            };
            assert!(access.answer(&request("bad", "")).is_none());
        }
    }

    #[test]
    fn scripts_of_a_page_read_answers_if_their_origin_is_on_the_list() {
        let seen = |origins: &[&str], origin: &str| {
            let access = Access {
                origins: list(origins),
                ..Access::default()
            };
            let mut headers = HeaderMap::new();
            access
                .origin(request("h", origin).headers())
                .mark(&mut headers);
            let allowed = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            allowed.map(|allowed| allowed.to_str().unwrap().to_owned())
        };
        let any = Some("*".to_owned());
        assert_eq!(seen(&[], "http://a"), any);
        assert_eq!(seen(&["*"], ""), any);
        assert_eq!(seen(&["http://a"], "http://a"), Some("http://a".to_owned()));
        assert_eq!(seen(&["http://a"], "http://b"), None);
    }

    #[test]
    fn a_browser_that_asks_first_is_told_what_it_may() {
        let mut ask = request("h", "http://a");
        *ask.method_mut() = http::Method::OPTIONS;
        let told = Access::default().answer(&ask).unwrap();
        assert_eq!(told.status(), StatusCode::OK);
        assert_eq!(told.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    }
}
