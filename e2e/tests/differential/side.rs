//! One of the two servers: asked by name, answering in names.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use coord_e2e::cluster::Cluster;
use coord_e2e::hostile::any_bytes;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::operation::{Who, decoded, encoded, messages};
use super::watching::Stream;

/// Entries that Go's sort keeps in order where they are equal.
const STABLE: usize = 12;
/// Fields of any message that are each server's own.
const OWN: [&str; 3] = ["cluster_id", "member_id", "raft_term"];
/// How a lease is named whose id the server chose.
const LEASE: &str = "lease#";
/// A lease that is not there, for one that was never granted.
const NO_LEASE: &str = "4242424242";
const NO_TOKEN: &str = "nobody.1";

pub(crate) struct Side {
    pub(crate) channel: Channel,
    pub(crate) streams: BTreeMap<usize, Stream>,
    tokens: BTreeMap<&'static str, String>,
    /// Ids of leases that this server chose.
    pub(crate) leases: Vec<String>,
    /// Dropped last.
    _cluster: Cluster,
}

impl Side {
    pub(crate) async fn new(cluster: Cluster) -> Result<Self> {
        let channel = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
        Ok(Self {
            channel,
            streams: BTreeMap::new(),
            tokens: BTreeMap::new(),
            leases: Vec::new(),
            _cluster: cluster,
        })
    }

    /// The answer to a call, or its refusal.
    pub(crate) async fn call(&mut self, who: Who, path: &str, request: &Value) -> Result<Value> {
        let mut request = request.clone();
        self.resolve(&mut request);
        let (asks, answers) = messages(path).context("the method is in the definitions")?;
        let bytes = encoded(asks, &request).with_context(|| format!("{path} {request}"))?;
        let mut call = Request::new(bytes.into());
        self.sign(who, &mut call)?;
        let mut answer = match any_bytes::call_with(self.channel.clone(), path, call).await {
            Ok(bytes) => decoded(answers, &bytes)?,
            Err(status) => return Ok(refusal(&status)),
        };
        self.keep(path, &request, &answer);
        self.name(&mut answer);
        Ok(answer)
    }

    /// Puts who asks into a request's headers.
    pub(crate) fn sign<T>(&self, who: Who, request: &mut Request<T>) -> Result<()> {
        let token = match who {
            Who::Nobody => None,
            Who::Stranger => Some(NO_TOKEN),
            Who::User(name) => self.tokens.get(name).map(String::as_str),
        };
        if let Some(token) = token {
            request.metadata_mut().insert("token", token.parse()?);
        }
        Ok(())
    }

    /// Keeps what later requests name.
    fn keep(&mut self, path: &str, request: &Value, answer: &Value) {
        if path.ends_with("/Authenticate")
            && let (Some(name), Some(token)) = (request["name"].as_str(), answer["token"].as_str())
            && let Some(user) = super::generate::USERS.iter().find(|user| **user == name)
        {
            self.tokens.insert(user, token.to_owned());
        }
        if path.ends_with("/LeaseGrant")
            && request["ID"].as_str().is_none_or(|id| id == "0")
            && let Some(id) = answer["ID"].as_str()
        {
            self.leases.push(id.to_owned());
        }
    }

    /// Ids for names.
    fn resolve(&self, request: &mut Value) {
        each_text(request, &mut |_, text| {
            let number = text.strip_prefix(LEASE)?.parse::<usize>().ok()?;
            let id = self.leases.get(number).map_or(NO_LEASE, String::as_str);
            Some(id.to_owned())
        });
    }

    /// Names for ids, and nothing that is the server's own.
    pub(crate) fn name(&self, answer: &mut Value) {
        each_text(answer, &mut |field, text| {
            if OWN.contains(&field) {
                return Some(String::new());
            }
            if field == "token" {
                return Some("a token".to_owned());
            }
            let number = self.leases.iter().position(|id| id == text)?;
            Some(format!("{LEASE}{number}"))
        });
        // docs/compatibility.md: the order of `LeaseLeases` and the keys of a lease, and of a role's many permissions for
        // ranges that begin alike.
        for (list, ordered) in [("leases", 0), ("keys", 0), ("perm", STABLE)] {
            let list = answer.get_mut(list).and_then(Value::as_array_mut);
            if let Some(list) = list.filter(|list| list.len() > ordered) {
                list.sort_by_key(Value::to_string);
            }
        }
    }
}

fn refusal(status: &Status) -> Value {
    json!({"code": format!("{:?}", status.code()), "message": status.message()})
}

/// Shows every text of a value and the field it is in; what comes back takes its place.
fn each_text(value: &mut Value, change: &mut impl FnMut(&str, &str) -> Option<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Value::String(text) = value {
                    if let Some(new) = change(name, text) {
                        *text = new;
                    }
                } else {
                    each_text(value, change);
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                each_text(value, change);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
