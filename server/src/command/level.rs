//! The feature level: which law the cluster's entries are written for, and what of it each command needs.
//!
//! Nothing is written above the level of the cluster, or a member of an older version could not read it and there would be
//! no way back. So a new command is entered in [`Command::needs`], which does not compile without it, and a new format in
//! `format.rs`; the level comes from the replicated state, never from the version.

use super::codec::wire::{Reader, Sink};
use super::codec::{Canonical, CodecError, unknown};
pub use super::format::{FEATURE_LEVEL, FIRST_LEVEL};
use super::{
    AlarmCommand, AuthCommand, Command, KvCommand, LeaseCommand, LimitRefusal, MemberCommand,
};

/// Of what raises the level, and so must be possible at any.
const ALWAYS: u32 = 0;

impl Command {
    /// The level that the cluster must have before this is written, and what it is called.
    fn needs(&self) -> (u32, &'static str) {
        match self {
            Self::Kv(command) => match command {
                KvCommand::Put(_) => (FIRST_LEVEL, "put"),
                KvCommand::DeleteRange(_) => (FIRST_LEVEL, "delete range"),
                // With transactions inside.
                KvCommand::Txn(_) => (FIRST_LEVEL, "transaction"),
                KvCommand::Compact { .. } => (FIRST_LEVEL, "compaction"),
            },
            Self::Lease(command) => match command {
                LeaseCommand::Grant { .. } => (FIRST_LEVEL, "lease grant"),
                LeaseCommand::Revoke { .. } => (FIRST_LEVEL, "lease revoke"),
                LeaseCommand::Expire { .. } => (FIRST_LEVEL, "lease expiry"),
                LeaseCommand::Checkpoint { .. } => (FIRST_LEVEL, "lease checkpoint"),
            },
            Self::Member(command) => match command {
                MemberCommand::Publish(_) => (ALWAYS, "member record"),
            },
            Self::Level(command) => match command {
                LevelCommand::Raise { .. } => (ALWAYS, "raise of the feature level"),
            },
            Self::Alarm(command) => match command {
                AlarmCommand::Activate(_) => (FIRST_LEVEL, "alarm"),
                AlarmCommand::Deactivate(_) => (FIRST_LEVEL, "end of an alarm"),
            },
            Self::Auth(command) => match command {
                AuthCommand::Enable => (FIRST_LEVEL, "auth enable"),
                AuthCommand::Disable => (FIRST_LEVEL, "auth disable"),
                AuthCommand::Authenticate { .. } => (FIRST_LEVEL, "authenticate"),
                AuthCommand::UserAdd { .. } => (FIRST_LEVEL, "user add"),
                AuthCommand::UserDelete { .. } => (FIRST_LEVEL, "user delete"),
                AuthCommand::UserChangePassword { .. } => (FIRST_LEVEL, "user change password"),
                AuthCommand::UserGrantRole { .. } => (FIRST_LEVEL, "user grant role"),
                AuthCommand::UserRevokeRole { .. } => (FIRST_LEVEL, "user revoke role"),
                AuthCommand::RoleAdd { .. } => (FIRST_LEVEL, "role add"),
                AuthCommand::RoleDelete { .. } => (FIRST_LEVEL, "role delete"),
                AuthCommand::RoleGrantPermission { .. } => (FIRST_LEVEL, "role grant permission"),
                AuthCommand::RoleRevokePermission { .. } => (FIRST_LEVEL, "role revoke permission"),
            },
        }
    }

    /// Whether it may be written while the cluster is at `level`.
    ///
    /// Errors: by its name, that not every member runs a version that knows it.
    pub fn may_be_written(&self, level: u32) -> Result<(), LimitRefusal> {
        let (needs, command) = self.needs();
        if needs <= level {
            return Ok(());
        }
        Err(LimitRefusal::Level {
            command,
            needs,
            level,
        })
    }
}

/// A change of the feature level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelCommand {
    /// Raises the feature level that the cluster's entries are written for; never lowers it. Proposed by a leader that
    /// has seen every member report at least this level.
    Raise {
        /// The level.
        level: u32,
    },
}

impl LevelCommand {
    /// The tags that begin one.
    pub(super) const TAGS: std::ops::RangeInclusive<u8> = 10..=10;
}

impl Canonical for LevelCommand {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Raise { level } => {
                out.u8(10);
                out.u64(u64::from(*level));
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            10 => Self::Raise {
                level: input.u32("feature level")?,
            },
            tag => return Err(unknown("level command", tag, at)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Alarm, AlarmKind, MemberId};

    #[test]
    fn a_command_above_the_level_is_refused_by_its_name() {
        let alarm = Alarm {
            kind: AlarmKind::NoSpace,
            member: MemberId(1),
        };
        let refused = |command: Command| {
            let refusal = command.may_be_written(0).unwrap_err();
            assert_eq!(command.may_be_written(FIRST_LEVEL), Ok(()));
            refusal.to_string()
        };
        assert_eq!(
            refused(Command::Auth(AuthCommand::Enable)),
            "auth enable needs feature level 1, the cluster is at 0: not every member runs a version that knows it"
        );
        let alarm = refused(Command::Alarm(AlarmCommand::Activate(alarm)));
        assert!(alarm.starts_with("alarm needs feature level 1"), "{alarm}");
        let raise = Command::Level(LevelCommand::Raise { level: 9 });
        assert_eq!(raise.may_be_written(0), Ok(()));
    }
}
