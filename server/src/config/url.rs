//! The URLs of listeners and members: scheme, host and port or a file, nothing more.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// Where a side listens or is reached: `http://host:port`, `https://host:port`, or a socket of the file system,
/// `unix://path` and `unixs://path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    is_tls: bool,
    place: Place,
}

/// A place without what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A port of a host.
    Port(String, u16),
    /// A socket of the file system.
    Socket(PathBuf),
}

impl Url {
    /// Reads a URL of a listener or a member.
    ///
    /// Errors: a sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("'{text}' has no scheme, use http://host:port"));
        };
        let (is_tls, is_socket) = match scheme {
            "http" => (false, false),
            "https" => (true, false),
            "unix" => (false, true),
            "unixs" => (true, true),
            _ => {
                return Err(format!(
                    "'{text}': unknown scheme '{scheme}', use http://, https://, unix:// or unixs://"
                ));
            }
        };
        if is_socket {
            if rest.is_empty() {
                return Err(format!("'{text}' names no file"));
            }
            let place = Place::Socket(rest.into());
            return Ok(Self { is_tls, place });
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(format!("'{text}' has no port, use {scheme}://host:port"));
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits);
        let port = port.ok_or_else(|| format!("'{text}' does not end in a port"))?;
        let host = normal_host(host).ok_or_else(|| format!("'{text}': '{host}' is not a host"))?;
        let place = Place::Port(host, port);
        Ok(Self { is_tls, place })
    }

    /// Reads where a member is to be reached, as etcd's calls take it: a port that can be dialled, and nothing behind it.
    pub fn parse_of_member(text: &str) -> Option<Self> {
        let url = Self::parse(text).ok()?;
        let can_be_dialled = matches!(url.place, Place::Port(_, port) if port != 0);
        (can_be_dialled && !text.trim_end().ends_with('/')).then_some(url)
    }

    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The place, whatever is spoken there.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The file, if it is a socket of the file system.
    pub fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Socket(path) => Some(path),
            Place::Port(..) => None,
        }
    }

    /// The address to resolve or bind: `host:port`; the file of a socket.
    pub fn authority(&self) -> String {
        match &self.place {
            Place::Port(host, port) => format!("{host}:{port}"),
            Place::Socket(path) => path.display().to_string(),
        }
    }

    /// The host, an IPv6 address without brackets; `localhost` for a socket of the file system.
    pub fn host(&self) -> String {
        match &self.place {
            Place::Port(host, _) => host.trim_matches(['[', ']']).to_owned(),
            Place::Socket(_) => "localhost".to_owned(),
        }
    }

    /// Comma-separated, as on the command line.
    pub fn list(urls: &[Self]) -> String {
        urls.iter()
            .map(Self::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// One text for one host: names know no case, and an IPv6 address has many forms.
fn normal_host(host: &str) -> Option<String> {
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if let Some(inner) = inner {
        let address: Ipv6Addr = inner.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!host.is_empty() && host.bytes().all(fits)).then(|| host.to_ascii_lowercase())
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.place, self.is_tls) {
            (Place::Port(..), false) => "http",
            (Place::Port(..), true) => "https",
            (Place::Socket(_), false) => "unix",
            (Place::Socket(_), true) => "unixs",
        };
        write!(f, "{scheme}://{}", self.authority())
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
            "https://h:1",
            "unix://localhost:20001",
            "unixs:///run/etcd.sock",
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Url::parse("http://h:1/").unwrap().to_string(), "http://h:1");
    }

    #[test]
    fn one_place_has_one_text() {
        for (text, normal) in [
            ("http://Node-1.Example:2380/", "http://node-1.example:2380"),
            (" http://[0:0:0:0:0:0:0:1]:2380", "http://[::1]:2380"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), normal);
        }
    }

    #[test]
    fn a_member_is_only_reached_where_it_can_be_dialled() {
        assert!(Url::parse_of_member(" http://h:1 ").is_some());
        assert!(Url::parse_of_member("https://h:1").is_some());
        for text in ["http://h:1/", "http://h:0", "unix://h:1", ""] {
            assert_eq!(Url::parse_of_member(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        for (text, part) in [
            ("h:1", "no scheme"),
            ("unix://", "names no file"),
            ("ftp://h:1", "unknown scheme"),
            ("http://h", "no port"),
            ("http://h:99999", "a port"),
            ("http://h:+1", "a port"),
            ("http://h:", "a port"),
            ("http://a b:1", "not a host"),
            ("http://[::1:1", "not a host"),
            ("http://::1:1", "not a host"),
            ("http://:1", "not a host"),
            ("http://a/b:1", "not a host"),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
