//! The caller and the called member: stamped on every call, checked on every call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Status};

use crate::clock::Moment;
use crate::command::{ClusterId, Incarnation, MemberId};
use crate::failpoints::{self, Bug};
use crate::metrics::metrics;
use crate::state;
use crate::tls::ClientCertificate;

/// The time between two log lines about refusals; all are counted.
const SAY_INTERVAL: Duration = Duration::from_secs(1);
const CLUSTER: &str = "coord-cluster";
const FROM: &str = "coord-from";
const TO: &str = "coord-to";
const INCARNATION: &str = "coord-incarnation";
/// Not there if the caller does not know it.
const TO_INCARNATION: &str = "coord-to-incarnation";
const LEVEL: &str = "coord-level";

/// This member's identity, stamped on each of its calls.
#[derive(Clone, Copy, Debug)]
pub(in crate::raft) struct CallStamp {
    pub(in crate::raft) cluster: ClusterId,
    pub(in crate::raft) member: MemberId,
    pub(in crate::raft) incarnation: Incarnation,
    /// The highest feature level it can apply.
    pub(in crate::raft) level_max: u32,
}

/// Counts a refused call, and says so: once for many, or a peer that calls wrongly fills the disk with our lines.
pub(super) fn refused(reason: &str) {
    static SAID: Mutex<Option<Moment>> = Mutex::new(None);
    metrics().peer_calls_refused.inc();
    let now = Moment::now();
    let mut said = SAID.lock().expect("nothing panics while it holds the lock");
    if said.is_none_or(|said| now.since(said) >= SAY_INTERVAL) {
        *said = Some(now);
        tracing::warn!(reason, "refused a call from a peer");
    }
}

/// Refuses a call whose caller has another's certificate: it must be for a host of one of the member's peer URLs, or for the
/// address that the call came from. Without a certificate there is nothing to check; the listener asks for one if it must.
pub(super) fn certify<T>(request: &Request<T>, urls: &[String]) -> Result<(), Status> {
    let Some(certificate) = request.extensions().get::<Arc<ClientCertificate>>() else {
        return Ok(());
    };
    if certificate.speaks_for(urls.iter().filter_map(|url| host(url))) {
        return Ok(());
    }
    let why = format!(
        "its certificate ({}) is neither for the address it comes from nor for a host of its peer URLs ({})",
        certificate.common_name(),
        urls.join(",")
    );
    refused(&why);
    Err(Status::failed_precondition(why))
}

/// The host of a URL.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (host, _) = rest.rsplit_once(':')?;
    Some(host)
}

fn hex(number: u64) -> AsciiMetadataValue {
    AsciiMetadataValue::try_from(format!("{number:x}")).expect("hexadecimal digits are ASCII")
}

fn read(metadata: &MetadataMap, name: &str) -> Result<u64, Status> {
    let text = metadata.get(name).and_then(|value| value.to_str().ok());
    let number = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    number.ok_or_else(|| Status::failed_precondition(format!("the caller does not say its {name}")))
}

impl CallStamp {
    /// A call to member `to`, whose data directory must be this one if it is known.
    pub(super) fn request<T>(
        &self,
        to: MemberId,
        incarnation: Option<Incarnation>,
        message: T,
    ) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER, hex(self.cluster.0));
        metadata.insert(FROM, hex(self.member.0));
        metadata.insert(TO, hex(to.0));
        metadata.insert(INCARNATION, hex(self.incarnation.0));
        metadata.insert(LEVEL, hex(u64::from(self.level_max)));
        if let Some(Incarnation(incarnation)) = incarnation {
            metadata.insert(TO_INCARNATION, hex(incarnation));
        }
        request
    }

    /// The caller, if the call may be answered.
    pub(super) fn check(
        &self,
        metadata: &MetadataMap,
        state: &state::Handle,
    ) -> Result<MemberId, Status> {
        self.verify(metadata, state)
            .inspect_err(|status| refused(status.message()))
    }

    fn verify(&self, metadata: &MetadataMap, state: &state::Handle) -> Result<MemberId, Status> {
        let refuse = |why: String| Err(Status::failed_precondition(why));
        let cluster = ClusterId(read(metadata, CLUSTER)?);
        if cluster != self.cluster {
            return refuse(format!(
                "it is for cluster {cluster}, this is cluster {}",
                self.cluster
            ));
        }
        let to = MemberId(read(metadata, TO)?);
        if to != self.member {
            return refuse(format!(
                "it is for member {to}, this is member {}",
                self.member
            ));
        }
        if metadata.contains_key(TO_INCARNATION)
            && Incarnation(read(metadata, TO_INCARNATION)?) != self.incarnation
            && !failpoints::has(Bug::NodeIdReused)
        {
            return refuse(format!(
                "it is for member {to} with another data directory: this one came back without what it had promised; \
                 remove it from the cluster, add it again and start it with an empty one"
            ));
        }
        let from = MemberId(read(metadata, FROM)?);
        if from == self.member {
            return refuse(format!(
                "it says it comes from member {from}, which is this one: two members have one id or URL"
            ));
        }
        let incarnation = Incarnation(read(metadata, INCARNATION)?);
        let level = read(metadata, LEVEL)?;
        let (known, needed) = state.with(|state| (state.incarnation(from), state.feature_level()));
        if known.is_some_and(|known| known != incarnation) && !failpoints::has(Bug::NodeIdReused) {
            return refuse(format!(
                "member {from} came back with another data directory: remove it from the cluster, add it again and start it \
                 with an empty one"
            ));
        }
        if level < u64::from(needed) {
            return refuse(format!(
                "member {from} only knows feature level {level}, the cluster is at {needed}: start a newer version there"
            ));
        }
        Ok(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{
        Command, Envelope, LevelCommand, LogPosition, Principal, Proposal, UnixMillis,
    };
    use crate::state::State;

    fn stamp(member: u64, level_max: u32) -> CallStamp {
        CallStamp {
            cluster: ClusterId(7),
            member: MemberId(member),
            incarnation: Incarnation(member),
            level_max,
        }
    }

    /// A state whose level was raised.
    fn state_at(level: u32) -> state::Handle {
        let mut state = State::in_memory_with(level);
        let origin = MemberId(1);
        let at = LogPosition {
            term: 1,
            leader: origin,
            index: 1,
        };
        let envelope = Envelope {
            feature_level: 1,
            leader_time: UnixMillis(1),
            proposals: vec![Proposal {
                origin,
                run: 1,
                sequence: 1,
                principal: Principal::System,
                command: Command::Level(LevelCommand::Raise { level }),
            }],
        };
        state.apply(at, &envelope).unwrap();
        state::Handle::new(state)
    }

    #[test]
    fn a_member_that_cannot_follow_the_law_is_refused() {
        let (own, state) = (stamp(1, 3), state_at(3));
        let call = |level_max| stamp(2, level_max).request(MemberId(1), None, ());
        assert_eq!(own.check(call(3).metadata(), &state).unwrap(), MemberId(2));
        assert!(own.check(call(4).metadata(), &state).is_ok());
        let refused = own.check(call(2).metadata(), &state).unwrap_err();
        assert_eq!(
            refused.message(),
            "member 2 only knows feature level 2, the cluster is at 3: start a newer version there"
        );
    }
}
