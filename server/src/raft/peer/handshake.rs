//! Who calls whom: stamped on every call, checked on every call.

use std::sync::{Arc, Mutex};

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Status};

use crate::command::{ClusterId, Incarnation, MemberId};
use crate::state::{FEATURE_LEVEL, State};

/// What every member must be able to apply. The cluster's level is raised by the law, once there is a second one.
const LEVEL_MIN: u64 = 1;
const CLUSTER: &str = "coord-cluster";
const FROM: &str = "coord-from";
const TO: &str = "coord-to";
const INCARNATION: &str = "coord-incarnation";
/// Not there if the caller does not know it.
const TO_INCARNATION: &str = "coord-to-incarnation";
const LEVEL: &str = "coord-level";

/// Who this member is, as its peers must know it.
#[derive(Clone, Copy, Debug)]
pub(in crate::raft) struct Stamp {
    pub(in crate::raft) cluster: ClusterId,
    pub(in crate::raft) member: MemberId,
    pub(in crate::raft) incarnation: Incarnation,
}

fn hex(number: u64) -> AsciiMetadataValue {
    AsciiMetadataValue::try_from(format!("{number:x}")).expect("hexadecimal digits are ASCII")
}

fn read(metadata: &MetadataMap, name: &str) -> Result<u64, Status> {
    let text = metadata.get(name).and_then(|value| value.to_str().ok());
    let number = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    number.ok_or_else(|| Status::failed_precondition(format!("the caller does not say its {name}")))
}

impl Stamp {
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
        metadata.insert(LEVEL, hex(u64::from(FEATURE_LEVEL)));
        if let Some(Incarnation(incarnation)) = incarnation {
            metadata.insert(TO_INCARNATION, hex(incarnation));
        }
        request
    }

    /// Who calls, if the call may be answered.
    pub(super) fn check(
        &self,
        metadata: &MetadataMap,
        state: &Arc<Mutex<State>>,
    ) -> Result<MemberId, Status> {
        self.verify(metadata, state).inspect_err(|status| {
            tracing::warn!(reason = status.message(), "refused a call from a peer");
        })
    }

    fn verify(
        &self,
        metadata: &MetadataMap,
        state: &Arc<Mutex<State>>,
    ) -> Result<MemberId, Status> {
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
        let state = state
            .lock()
            .expect("nothing panics while it holds the lock");
        let known = state.incarnation(from);
        if known.is_some_and(|known| known != incarnation) {
            return refuse(format!(
                "member {from} came back with another data directory: remove it from the cluster, add it again and start it \
                 with an empty one"
            ));
        }
        if level < LEVEL_MIN {
            return refuse(format!(
                "member {from} only knows feature level {level}, the cluster is at {LEVEL_MIN}: upgrade it"
            ));
        }
        Ok(from)
    }
}
