//! The part of an answer that its request could not say: what only the server could choose or count.

use std::any::Any;

use coord_proto::etcd::{etcdserverpb as pb, v3electionpb, v3lockpb};

use crate::audit::Fact;

/// Hands over the details of an answer; of most there are none.
pub(super) fn facts<'a>(answer: &'a dyn Any, tell: impl FnOnce(&[(&'static str, Fact<'a>)])) {
    if let Some(answer) = answer.downcast_ref::<pb::TxnResponse>() {
        tell(&[("succeeded", Fact::Is(answer.succeeded))]);
    } else if let Some(answer) = answer.downcast_ref::<pb::DeleteRangeResponse>() {
        tell(&[("deleted", Fact::Number(answer.deleted))]);
    } else if let Some(answer) = answer.downcast_ref::<pb::LeaseGrantResponse>() {
        tell(&[("lease", Fact::Id(answer.id.cast_unsigned()))]);
    } else if let Some(answer) = answer.downcast_ref::<pb::MemberAddResponse>() {
        let added = answer.member.as_ref().map_or(0, |member| member.id);
        tell(&[("added", Fact::Id(added))]);
    } else if let Some(answer) = answer.downcast_ref::<v3lockpb::LockResponse>() {
        tell(&[("key", Fact::Key(&answer.key))]);
    } else if let Some(answer) = answer.downcast_ref::<v3electionpb::CampaignResponse>() {
        let key = answer.leader.as_ref().map_or(&[][..], |leader| &leader.key);
        tell(&[("key", Fact::Key(key))]);
    } else {
        tell(&[]);
    }
}
