//! The TLS of both sides, as the flags say.

use std::path::PathBuf;

use super::{Invalid, invalid};
use crate::cli::{Settings, parse_bool};
use crate::tls::{self, Allowed, Flags, Versions};

/// The TLS of a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The settings of its flags.
    pub settings: tls::Settings,
    /// Years that a certificate is valid which this member makes for itself; `None` makes none.
    pub auto_years: Option<u32>,
}

/// Names of the flags that only one side has, or that a side calls otherwise.
struct Names {
    flags: Flags,
    client_cert_auth: &'static str,
    auto: &'static str,
    allowed_cn: Option<&'static str>,
    allowed_hostname: &'static str,
    skip_names: Option<&'static str>,
}

const CLIENTS: Names = Names {
    flags: Flags::CLIENTS,
    client_cert_auth: "client-cert-auth",
    auto: "auto-tls",
    allowed_cn: None,
    allowed_hostname: "client-cert-allowed-hostname",
    skip_names: None,
};

const PEERS: Names = Names {
    flags: Flags::PEERS,
    client_cert_auth: "peer-client-cert-auth",
    auto: "peer-auto-tls",
    allowed_cn: Some("peer-cert-allowed-cn"),
    allowed_hostname: "peer-cert-allowed-hostname",
    skip_names: Some("peer-skip-client-san-verification"),
};

/// The side that clients use.
pub(super) fn clients(settings: &Settings) -> Result<Tls, Invalid> {
    read(settings, &CLIENTS)
}

/// The side that members use.
pub(super) fn peers(settings: &Settings) -> Result<Tls, Invalid> {
    read(settings, &PEERS)
}

fn read(settings: &Settings, names: &Names) -> Result<Tls, Invalid> {
    let flags = names.flags;
    let file = |flag| given(settings, flag).map(PathBuf::from);
    let mut side = tls::Settings::new(flags);
    side.identity = pair(settings, flags.cert, flags.key)?;
    side.client_identity = pair(settings, flags.client_cert, flags.client_key)?;
    side.trusted_ca = file(flags.trusted_ca);
    side.crl = file(flags.crl);
    side.client_cert_auth = is_true(settings, names.client_cert_auth)?;
    side.allowed = allowed(settings, names)?;
    side.checks_names = match names.skip_names {
        Some(skip) => !is_true(settings, skip)?,
        None => false,
    };
    side.versions = versions(settings)?;
    side.cipher_suites = cipher_suites(settings, side.versions)?;
    let auto = is_true(settings, names.auto)?;
    Ok(Tls {
        settings: side,
        auto_years: auto.then(|| years(settings)).transpose()?,
    })
}

/// A value that is not empty.
fn given<'a>(settings: &'a Settings, flag: &'static str) -> Option<&'a str> {
    settings.get(flag).filter(|value| !value.is_empty())
}

fn list(settings: &Settings, flag: &'static str) -> Vec<String> {
    let values = given(settings, flag).unwrap_or_default().split(',');
    let values = values.map(str::trim).filter(|value| !value.is_empty());
    values.map(str::to_owned).collect()
}

fn is_true(settings: &Settings, flag: &'static str) -> Result<bool, Invalid> {
    settings.get(flag).map_or(Ok(false), |text| {
        let wrong = || invalid(flag, format!("invalid boolean value \"{text}\""));
        parse_bool(text).ok_or_else(wrong)
    })
}

/// Both or neither.
fn pair(
    settings: &Settings,
    cert: &'static str,
    key: &'static str,
) -> Result<Option<(PathBuf, PathBuf)>, Invalid> {
    match (given(settings, cert), given(settings, key)) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some((cert.into(), key.into()))),
        (Some(_), None) => Err(invalid(
            key,
            format!("must be given together with --{cert}"),
        )),
        (None, Some(_)) => Err(invalid(
            cert,
            format!("must be given together with --{key}"),
        )),
    }
}

fn allowed(settings: &Settings, names: &Names) -> Result<Allowed, Invalid> {
    let common_names = names.allowed_cn.map(|flag| (flag, list(settings, flag)));
    let hosts = list(settings, names.allowed_hostname);
    match common_names.filter(|(_, names)| !names.is_empty()) {
        Some((flag, _)) if !hosts.is_empty() => Err(invalid(
            flag,
            format!("and --{} exclude each other", names.allowed_hostname),
        )),
        Some((_, common_names)) => Ok(Allowed::CommonNames(common_names)),
        None if hosts.is_empty() => Ok(Allowed::All),
        None => Ok(Allowed::Hostnames(hosts)),
    }
}

fn versions(settings: &Settings) -> Result<Versions, Invalid> {
    let minor = |flag, default| match settings.get(flag).unwrap_or(default) {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(2)),
        "TLS1.3" => Ok(Some(3)),
        other => Err(invalid(
            flag,
            format!("unexpected TLS version \"{other}\" (must be one of: TLS1.2, TLS1.3)"),
        )),
    };
    let min = minor("tls-min-version", "TLS1.2")?.unwrap_or(2);
    let max = minor("tls-max-version", "")?.unwrap_or(3);
    match (min, max) {
        (2, 3) => Ok(Versions::From12),
        (2, _) => Ok(Versions::Only12),
        (_, 3) => Ok(Versions::Only13),
        _ => Err(invalid(
            "tls-min-version",
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        )),
    }
}

fn cipher_suites(settings: &Settings, versions: Versions) -> Result<Vec<String>, Invalid> {
    const FLAG: &str = "cipher-suites";
    let suites = list(settings, FLAG);
    if let Some(unknown) = suites.iter().find(|name| !tls::is_cipher_suite(name)) {
        let why = format!("unexpected TLS cipher suite \"{unknown}\"");
        return Err(invalid(FLAG, why));
    }
    if versions == Versions::Only13 && !suites.is_empty() {
        let why = "cipher suites cannot be configured when only TLS1.3 is enabled";
        return Err(invalid(FLAG, why));
    }
    Ok(suites)
}

fn years(settings: &Settings) -> Result<u32, Invalid> {
    const FLAG: &str = "self-signed-cert-validity";
    let text = settings.get(FLAG).unwrap_or("1");
    let years = text.parse().ok().filter(|years| (1..=1000).contains(years));
    years.ok_or_else(|| {
        invalid(
            FLAG,
            format!("'{text}' is not a number of years from 1 to 1000"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers_of(pairs: &[(&'static str, &str)]) -> Result<Tls, Invalid> {
        let settings = pairs
            .iter()
            .fold(Settings::default(), |all, (name, value)| {
                all.with(name, *value)
            });
        peers(&settings)
    }

    #[test]
    fn each_value_that_cannot_be_is_refused_under_its_flag() {
        for (flag, pairs) in [
            ("peer-key-file", vec![("peer-cert-file", "c")]),
            ("peer-cert-file", vec![("peer-key-file", "k")]),
            ("peer-client-key-file", vec![("peer-client-cert-file", "c")]),
            (
                "peer-client-cert-auth",
                vec![("peer-client-cert-auth", "perhaps")],
            ),
            (
                "peer-cert-allowed-cn",
                vec![
                    ("peer-cert-allowed-cn", "a"),
                    ("peer-cert-allowed-hostname", "h"),
                ],
            ),
            ("tls-min-version", vec![("tls-min-version", "TLS1.1")]),
            (
                "tls-min-version",
                vec![("tls-min-version", "TLS1.3"), ("tls-max-version", "TLS1.2")],
            ),
            ("cipher-suites", vec![("cipher-suites", "NONE_OF_THIS")]),
            (
                "cipher-suites",
                vec![
                    ("cipher-suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
                    ("tls-min-version", "TLS1.3"),
                ],
            ),
            (
                "self-signed-cert-validity",
                vec![
                    ("peer-auto-tls", "true"),
                    ("self-signed-cert-validity", "0"),
                ],
            ),
        ] {
            assert_eq!(peers_of(&pairs).unwrap_err().flag, flag, "{pairs:?}");
        }
    }

    #[test]
    fn files_may_be_empty_words_and_lists_have_commas() {
        let tls = peers_of(&[
            ("peer-cert-file", ""),
            ("peer-cert-allowed-cn", "a, b,"),
            (
                "cipher-suites",
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_RSA_WITH_AES_128_CBC_SHA",
            ),
        ])
        .unwrap();
        let names = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(tls.settings.allowed, Allowed::CommonNames(names));
        assert_eq!(tls.settings.cipher_suites.len(), 2);
        assert_eq!((tls.settings.identity, tls.auto_years), (None, None));
    }
}
