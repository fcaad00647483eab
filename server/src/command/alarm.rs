//! Alarms: a member's trouble, as all members know it.

use super::MemberId;
use super::codec::wire::{Reader, Sink};
use super::codec::{Canonical, CodecError, unknown};

/// The kind of an alarm. The order is that of etcd's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// The store is full.
    NoSpace,
    /// The member's state differs from the others'.
    Corrupt,
}

/// One alarm of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// Its kind.
    pub kind: AlarmKind,
    /// The member that has it.
    pub member: MemberId,
}

/// A change to the alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlarmCommand {
    /// Raises it; one that is raised stays.
    Activate(Alarm),
    /// Ends it, if it is raised.
    Deactivate(Alarm),
}

impl AlarmCommand {
    /// The tags that begin one.
    pub(super) const TAGS: std::ops::RangeInclusive<u8> = 11..=12;
}

impl Canonical for AlarmCommand {
    fn write(&self, out: &mut impl Sink) {
        let (tag, alarm) = match self {
            Self::Activate(alarm) => (11, alarm),
            Self::Deactivate(alarm) => (12, alarm),
        };
        out.u8(tag);
        alarm.write(out);
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            11 => Self::Activate(Alarm::read(input)?),
            12 => Self::Deactivate(Alarm::read(input)?),
            tag => return Err(unknown("alarm command", tag, at)),
        })
    }
}

impl Canonical for Alarm {
    fn write(&self, out: &mut impl Sink) {
        let Self { kind, member } = self;
        out.u8(match kind {
            AlarmKind::NoSpace => 1,
            AlarmKind::Corrupt => 2,
        });
        out.u64(member.0);
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        let kind = match input.u8()? {
            1 => AlarmKind::NoSpace,
            2 => AlarmKind::Corrupt,
            tag => return Err(unknown("alarm", tag, at)),
        };
        Ok(Self {
            kind,
            member: MemberId(input.u64()?),
        })
    }
}
