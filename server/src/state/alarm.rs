//! Alarms: raised and ended by name, on record for all members, and what stands while one does.
//!
//! Source: etcd `server/etcdserver/api/v3alarm`, `server/etcdserver/apply/{capped,corrupt}.go`.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::State;
use super::law::Law;
use super::ledger::{self, system_key, tag};
use super::spaces::SYSTEM;
use crate::command::codec::CodecError;
use crate::command::{
    Alarm, AlarmCommand, AlarmKind, Command, Fault, LeaseCommand, LimitRefusal, MemberId, Refusal,
    Response,
};
use crate::disk::Rows;

impl State {
    /// The alarms that are raised, ascending.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms.iter().copied().collect()
    }
}

impl Law<'_> {
    /// Answers the alarm that is raised now, before or not; or that was, and is no more.
    pub(super) fn alarm(&mut self, command: &AlarmCommand) -> Response {
        let answered = match command {
            AlarmCommand::Activate(alarm) => {
                if self.alarms.insert(*alarm) {
                    self.rows.put(SYSTEM, alarm_key(*alarm), Bytes::new());
                }
                Some(*alarm)
            }
            AlarmCommand::Deactivate(alarm) => {
                let was_raised = self.alarms.remove(alarm);
                if was_raised {
                    self.rows.delete(SYSTEM, alarm_key(*alarm));
                }
                was_raised.then_some(*alarm)
            }
        };
        Response::Alarms(Vec::from_iter(answered))
    }

    /// Refuses what may not be done while an alarm stands, of any member.
    pub(super) fn check_alarms(&self, command: &Command) -> Result<(), Refusal> {
        let stands = |kind| self.alarms.iter().any(|alarm| alarm.kind == kind);
        if self.alarms.is_empty() {
            return Ok(());
        }
        let is_of_clients = match command {
            Command::Kv(_) => true,
            Command::Lease(command) => match command {
                LeaseCommand::Grant { .. } | LeaseCommand::Revoke { .. } => true,
                // Ends that are due go on: a lease that cannot end would hold its locks for ever.
                LeaseCommand::Expire { .. } | LeaseCommand::Checkpoint { .. } => false,
            },
            Command::Member(_) | Command::Level(_) | Command::Alarm(_) | Command::Auth(_) => false,
        };
        if is_of_clients && stands(AlarmKind::Corrupt) {
            return Err(LimitRefusal::Corrupt.into());
        }
        if command.stores() && stands(AlarmKind::NoSpace) {
            return Err(LimitRefusal::NoSpace.into());
        }
        Ok(())
    }
}

fn alarm_key(Alarm { kind, member }: Alarm) -> Bytes {
    let kind = match kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    };
    let [a, b, c, d, e, f, g, h] = member.0.to_be_bytes();
    system_key(tag::ALARM, &[kind, a, b, c, d, e, f, g, h])
}

pub(super) fn load(rows: &Rows<'_>) -> Result<BTreeSet<Alarm>, Fault> {
    let mut alarms = BTreeSet::new();
    ledger::each(rows, tag::ALARM, |key, _| {
        let cut = || CodecError::Truncated { at: 0 };
        let (kind, member) = key.split_first().ok_or_else(cut)?;
        let kind = match kind {
            1 => AlarmKind::NoSpace,
            2 => AlarmKind::Corrupt,
            tag => {
                return Err(CodecError::Unknown {
                    what: "alarm",
                    tag: *tag,
                    at: 0,
                });
            }
        };
        let member = member.try_into().map_err(|_| cut())?;
        let member = MemberId(u64::from_be_bytes(member));
        alarms.insert(Alarm { kind, member });
        Ok(())
    })?;
    Ok(alarms)
}
