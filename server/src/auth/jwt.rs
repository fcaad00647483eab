//! Signed tokens (RFC 7519): a user's name and the auth revision it was checked at, with an end. Every member that has the
//! key checks them, and none has to know them. Source: etcd `server/auth/jwt.go`, for claims and options.

mod method;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::command::{AuthRefusal, UnixMillis};
use crate::go_duration;
use method::Key;

/// etcd's default of `ttl=`.
const TTL_DEFAULT: Duration = Duration::from_secs(300);

/// Makes and checks signed tokens.
pub(super) struct Jwt {
    /// `sign-method=`, which a token must name.
    method: String,
    key: Key,
    ttl: Duration,
}

impl Jwt {
    /// `pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=DURATION`.
    pub(super) fn new(options: &str) -> Result<Self, String> {
        let (mut public, mut private, mut method, mut ttl) = (None, None, None, None);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let pair = option.split_once('=');
            let (name, value) = pair.ok_or_else(|| format!("'{option}' has no value"))?;
            let slot = match name {
                "pub-key" => &mut public,
                "priv-key" => &mut private,
                "sign-method" => &mut method,
                "ttl" => &mut ttl,
                other => {
                    tracing::warn!(option = other, "unknown JWT option");
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                return Err(format!("'{name}' is given twice"));
            }
        }
        let read = |file: Option<&str>| match file {
            None | Some("") => Ok(None),
            Some(file) => match std::fs::read(file) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(why) => Err(format!("{file}: {why}")),
            },
        };
        let method = method.unwrap_or_default();
        let (public, private) = (read(public)?, read(private)?);
        let ttl = match ttl {
            None | Some("") => TTL_DEFAULT,
            Some(text) => {
                go_duration::parse(text).ok_or_else(|| format!("ttl={text} is no duration"))?
            }
        };
        Ok(Self {
            key: Key::new(method, public.as_deref(), private.as_deref())?,
            method: method.to_owned(),
            ttl,
        })
    }

    pub(super) fn sign(
        &self,
        user: &str,
        revision: u64,
        now: UnixMillis,
    ) -> Result<String, AuthRefusal> {
        let exp = now.0 / 1000 + self.ttl.as_secs();
        let head = json!({"alg": self.method, "typ": "JWT"}).to_string();
        let claims = json!({"exp": exp, "revision": revision, "username": user}).to_string();
        let said = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.key.sign(said.as_bytes());
        let signature = signature.ok_or(AuthRefusal::VerifyOnly)?;
        Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The user and the revision that a token names, if it is signed with our method and key and has not ended.
    pub(super) fn check(&self, token: &str, now: UnixMillis) -> Option<(String, u64)> {
        let (said, signature) = token.rsplit_once('.')?;
        let (head, claims) = said.split_once('.')?;
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        // Before the signature: a token that names another method, or none, is never looked at further.
        if json(head)?.get("alg")?.as_str()? != self.method {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !self.key.is_right(said.as_bytes(), &signature) {
            return None;
        }
        let claims = json(claims)?;
        let seconds = (now.0 / 1000) as f64;
        let time = |name: &str| claims.get(name).map(Value::as_f64);
        if let Some(exp) = time("exp")
            && exp? <= seconds
        {
            return None;
        }
        if let Some(nbf) = time("nbf")
            && nbf? > seconds
        {
            return None;
        }
        let user = claims.get("username")?.as_str()?.to_owned();
        let revision = claims.get("revision")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "as etcd, which reads every number as a float"
        )]
        let revision = revision
            .as_u64()
            .or(revision.as_f64().map(|it| it as u64))?;
        Some((user, revision))
    }
}

#[cfg(test)]
mod tests;
