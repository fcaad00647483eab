//! The URLs of listeners and members: scheme, host and port, nothing more.

use std::fmt;

/// A `http://host:port` URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    host: String,
    port: u16,
}

impl Url {
    /// Reads a URL of a listener or a member.
    ///
    /// Errors: a sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(match text.split_once("://") {
                Some(("https" | "unix" | "unixs", _)) => {
                    format!(
                        "'{text}': this version serves http:// only, TLS and sockets are not there yet"
                    )
                }
                Some((scheme, _)) => format!("'{text}': unknown scheme '{scheme}', use http://"),
                None => format!("'{text}' has no scheme, use http://host:port"),
            });
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(format!("'{text}' has no port, use http://host:port"));
        };
        let port = port
            .parse()
            .map_err(|_| format!("'{text}': '{port}' is not a port"))?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty()
            || host.contains(['/', '@', '?', '#'])
            || (host.contains(':') && !bracketed)
        {
            return Err(format!("'{text}': '{host}' is not a host"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// What to resolve or bind: `host:port`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Comma-separated, as on the command line.
    pub fn list(urls: &[Self]) -> String {
        urls.iter()
            .map(Self::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_as_it_was_read() {
        for text in [
            "http://localhost:2379",
            "http://10.0.0.1:1",
            "http://[::1]:2380",
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Url::parse("http://h:1/").unwrap().to_string(), "http://h:1");
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        for (text, part) in [
            ("h:1", "no scheme"),
            ("https://h:1", "TLS"),
            ("ftp://h:1", "unknown scheme"),
            ("http://h", "no port"),
            ("http://h:99999", "not a port"),
            ("http://:1", "not a host"),
            ("http://a/b:1", "not a host"),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
