//! `--cors`, `--host-whitelist`, `--enable-grpc-gateway`: access over plain HTTP, and whether calls are made there.

use std::collections::BTreeSet;

use super::{Invalid, Url, invalid};
use crate::cli::Settings;

const ANY: &str = "*";

/// Plain HTTP: what is answered, and to whom. An empty list allows everything, as one with `*` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Whether calls can be made with JSON.
    pub has_gateway: bool,
    /// Origins whose pages may read answers.
    pub origins: BTreeSet<String>,
    /// Hosts that a request without TLS may name.
    pub hosts: BTreeSet<String>,
}

/// Errors: an origin that is no URL.
pub(super) fn resolve(settings: &Settings) -> Result<Web, Invalid> {
    const CORS: &str = "cors";
    let origins = parts(settings.get(CORS).unwrap_or(ANY)).map(|origin| match origin {
        ANY => Ok(ANY.to_owned()),
        origin => Url::parse(origin)
            .map(|url| url.to_string())
            .map_err(|why| invalid(CORS, why)),
    });
    let hosts = parts(settings.get("host-whitelist").unwrap_or(ANY));
    Ok(Web {
        has_gateway: settings.get("enable-grpc-gateway") != Some("false"),
        origins: origins.collect::<Result<_, _>>()?,
        hosts: hosts.map(str::to_owned).collect(),
    })
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_may_ask_unless_there_is_a_list() {
        let any: BTreeSet<String> = [ANY.to_owned()].into();
        let web = resolve(&Settings::default()).unwrap();
        assert_eq!(
            (web.has_gateway, &web.origins, &web.hosts),
            (true, &any, &any)
        );
        let settings = Settings::default()
            .with("cors", "http://a:80/,https://b:443")
            .with("host-whitelist", "a, b")
            .with("enable-grpc-gateway", "false");
        let web = resolve(&settings).unwrap();
        assert!(!web.has_gateway);
        assert_eq!(
            Vec::from_iter(web.origins),
            ["http://a:80", "https://b:443"]
        );
        assert_eq!(Vec::from_iter(web.hosts), ["a", "b"]);
    }

    #[test]
    fn an_origin_is_a_url_with_a_port_as_in_etcd() {
        for wrong in ["example.com", "http://example.com", "ftp://example.com:1"] {
            assert!(
                resolve(&Settings::default().with("cors", wrong)).is_err(),
                "{wrong}"
            );
        }
    }
}
