//! Alarms on the wire.

use coord_proto::etcd::etcdserverpb as pb;

use crate::command::{Alarm, AlarmKind};

/// The kind that a number names; `None` for all of them.
pub(super) fn kind(number: i32) -> Option<AlarmKind> {
    match pb::AlarmType::try_from(number) {
        Ok(pb::AlarmType::Nospace) => Some(AlarmKind::NoSpace),
        Ok(pb::AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
        Ok(pb::AlarmType::None) | Err(_) => None,
    }
}

pub(super) fn on_the_wire(alarm: Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember {
        member_id: alarm.member.0,
        alarm: kind.into(),
    }
}

/// As Status says it, with Go's space behind.
pub(super) fn text(alarm: pb::AlarmMember) -> String {
    let kind = alarm.alarm().as_str_name();
    format!("memberID:{} alarm:{kind} ", alarm.member_id)
}
