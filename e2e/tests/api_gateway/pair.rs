//! A real etcd and a Coord, asked the same, and how their answers are compared.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use coord_e2e::clients::http::{Ask, Page, ask};
use coord_e2e::clients::programs;
use coord_e2e::cluster::process::Program;
use coord_e2e::cluster::{Cluster, Flags, Kind};
use serde_json::Value;

/// Fields whose values are each server's own.
const OWN: [&str; 15] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "memberID",
    "leader",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "dbSize",
    "version",
    "storageVersion",
    "token",
    "peerURLs",
    "clientURLs",
    "blob",
];
/// Headers that clients of the gateway look at.
const HEADERS: [&str; 8] = [
    "content-type",
    "grpc-metadata-content-type",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "www-authenticate",
    "x-content-type-options",
    "location",
];

/// A real etcd and a Coord, which are asked the same.
pub(crate) struct Pair {
    pub(crate) etcd: Cluster,
    pub(crate) coord: Cluster,
    /// Values learnt from answers that differ: by name, of each of the two.
    learnt: BTreeMap<&'static str, [String; 2]>,
}

impl Pair {
    pub(crate) async fn start(flags: Flags<'_>) -> Result<Self> {
        let mut etcd = Cluster::new(Kind::Processes(1), flags)?;
        etcd.set_program(Program {
            path: Some(programs::etcd()?),
            ..Program::default()
        });
        etcd.spawn(0)?;
        let coord = Cluster::start_with(Kind::Processes(1), flags).await?;
        etcd.ready(0).await?;
        Ok(Self {
            etcd,
            coord,
            learnt: BTreeMap::new(),
        })
    }

    /// Asks both, and expects the same answer, which it returns as Coord gave it.
    pub(crate) async fn same(&self, verb: &str, path: &str, asked: Ask<'_>) -> Result<Page> {
        let [etcd, coord] = self.both(verb, path, asked).await?;
        let context = format!("{verb} {path} {:?} {}", asked.headers, asked.body);
        assert_eq!(coord.status, etcd.status, "{context}: {coord:#?} {etcd:#?}");
        for name in HEADERS {
            assert_eq!(coord.header(name), etcd.header(name), "{context}: {name}");
        }
        // More may have come by then than was waited for.
        let lines = match asked.lines {
            0 => usize::MAX,
            lines => lines,
        };
        let read = |page: &Page| masked(page).into_iter().take(lines).collect::<Vec<_>>();
        assert_eq!(read(&coord), read(&etcd), "{context}");
        Ok(coord)
    }

    pub(crate) async fn both(&self, verb: &str, path: &str, asked: Ask<'_>) -> Result<[Page; 2]> {
        let mut pages = Vec::new();
        for (which, cluster) in [&self.etcd, &self.coord].into_iter().enumerate() {
            let fill = |text: &str| {
                self.learnt
                    .iter()
                    .fold(text.to_owned(), |text, (name, values)| {
                        text.replace(name, &values[which])
                    })
            };
            let body = fill(asked.body);
            let headers: Vec<_> = asked
                .headers
                .iter()
                .map(|(name, value)| (*name, fill(value)))
                .collect();
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let filled = Ask {
                headers: &headers,
                body: &body,
                ..asked
            };
            let endpoint = cluster.endpoint(0);
            let asking = ask(verb, &endpoint, path, filled);
            let server = ["etcd", "coord"][which];
            pages.push(
                asking
                    .await
                    .with_context(|| format!("{server}: {path} {body}"))?,
            );
        }
        pages
            .try_into()
            .map_err(|_| anyhow::anyhow!("there are two"))
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Result<Page> {
        let asked = Ask {
            body,
            ..Ask::default()
        };
        self.same("POST", path, asked).await
    }

    /// Posts, and reads `lines` of the answer.
    pub(crate) async fn lines(&self, path: &str, body: &str, lines: usize) -> Result<Page> {
        let asked = Ask {
            body,
            lines,
            ..Ask::default()
        };
        self.same("POST", path, asked).await
    }

    /// Asks both, and remembers what each said at `pointer` under a name for later bodies and headers.
    pub(crate) async fn learn(
        &mut self,
        name: &'static str,
        path: &str,
        body: &str,
        pointer: &str,
    ) -> Result<()> {
        let asked = Ask {
            body,
            ..Ask::default()
        };
        let pages = self.both("POST", path, asked).await?;
        let mut values = Vec::new();
        for page in &pages {
            let value: Value = serde_json::from_str(&page.whole_body())?;
            let value = value.pointer(pointer).and_then(Value::as_str);
            values.push(
                value
                    .with_context(|| format!("no {pointer} in {page:?}"))?
                    .to_owned(),
            );
        }
        let values = values
            .try_into()
            .map_err(|_| anyhow::anyhow!("there are two"))?;
        self.learnt.insert(name, values);
        Ok(())
    }
}

/// The lines of a body as values without what is each server's own; as text, where they are none.
fn masked(page: &Page) -> Vec<Value> {
    let body = page.whole_body();
    let lines = body.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut value =
                serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()));
            mask(&mut value);
            value
        })
        .collect()
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A member's; a lease's are what was asked for.
            let is_member = fields.contains_key("peerURLs");
            // How a snapshot is cut, and what a store takes that holds next to nothing.
            for own in ["remaining_bytes", "dbSizeInUse"] {
                fields.remove(own);
            }
            for (name, value) in fields {
                let own = OWN.contains(&name.as_str()) || (name == "ID" && is_member);
                match own {
                    true => *value = Value::String(format!("some {name}")),
                    false => mask(value),
                }
                // They stand by their ids.
                if let ("members", Value::Array(members)) = (name.as_str(), value) {
                    members.sort_by_key(Value::to_string);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
