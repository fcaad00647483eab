//! The kinds of operations, by name.

/// The kind of an operation, as `--coord-audit-kinds` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keys are read or compared.
    Read,
    /// Keys are put or deleted.
    Write,
    /// Keys are watched.
    Watch,
    /// Leases.
    Lease,
    /// Locks and elections.
    Lock,
    /// Logins, users, roles, and whether there is authentication.
    Auth,
    /// Members.
    Cluster,
    /// Compaction, alarms, status, copies, a change of leader.
    Maintenance,
}

impl Kind {
    /// All, in the order in which they are named.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Watch,
        Self::Lease,
        Self::Lock,
        Self::Auth,
        Self::Cluster,
        Self::Maintenance,
    ];

    /// Its name, in settings and lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Watch => "watch",
            Self::Lease => "lease",
            Self::Lock => "lock",
            Self::Auth => "auth",
            Self::Cluster => "cluster",
            Self::Maintenance => "maintenance",
        }
    }

    /// The kind of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.name()), Some(kind));
        }
        assert_eq!(Kind::of("Read"), None);
    }
}
