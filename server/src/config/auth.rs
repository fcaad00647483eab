//! `--auth-token`, its time to live and `--bcrypt-cost`.

use std::time::Duration;

use super::{Invalid, invalid};
use crate::cli::Settings;

/// etcd's `--auth-token-ttl`, in seconds.
const AUTH_TOKEN_TTL_DEFAULT: u32 = 300;
/// etcd's `--bcrypt-cost`.
const BCRYPT_COST_DEFAULT: u32 = 10;

/// How clients show who they are, once authentication is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `simple`, or `jwt` with its options.
    pub token: String,
    /// How long a simple token lives that nobody uses.
    pub ttl: Duration,
    /// Cost of bcrypt.
    pub bcrypt_cost: u32,
}

/// How clients show who they are, by the settings.
pub(super) fn resolve(settings: &Settings) -> Result<Auth, Invalid> {
    let number = |flag: &'static str, default: u32| match settings.get(flag) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| invalid(flag, format!("'{text}' is not a number"))),
    };
    // As etcd, where 0 is the default.
    let ttl = match number("auth-token-ttl", AUTH_TOKEN_TTL_DEFAULT)? {
        0 => AUTH_TOKEN_TTL_DEFAULT,
        seconds => seconds,
    };
    let token = settings.get("auth-token").unwrap_or("simple");
    crate::auth::check(token).map_err(|error| invalid("auth-token", error.to_string()))?;
    Ok(Auth {
        token: token.to_owned(),
        ttl: Duration::from_secs(u64::from(ttl)),
        bcrypt_cost: number("bcrypt-cost", BCRYPT_COST_DEFAULT)?,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::config;

    #[test]
    fn a_kind_of_token_that_cannot_be_is_refused_by_flag() {
        for (token, is_taken) in [
            ("simple", true),
            ("none", false),
            ("jwt", false),
            ("jwt,sign-method=none,priv-key=nowhere", false),
        ] {
            let read = config(&[("auth-token", token)]);
            assert_eq!(read.is_ok(), is_taken, "{token}");
            if let Err(why) = read {
                assert_eq!(why.flag, "auth-token");
            }
        }
    }
}
