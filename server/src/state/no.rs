//! Why the law, or an answer, has no yes: one error for both kinds, so that `?` serves in every noun's file.

use crate::command::{AuthRefusal, Fault, KvRefusal, LeaseRefusal, Refusal};

/// Why something is not done, or not answered.
///
/// A refusal is decided alike on every member and is part of the outcome; a fault says that this member's store is broken.
#[derive(Debug)]
pub enum No {
    /// Decided: no. Nothing was changed.
    Refused(Refusal),
    /// The store is broken.
    Fault(Fault),
}

impl No {
    /// The two kinds apart, where an outcome is made of a refusal.
    pub(super) fn apart<T>(result: Result<T, Self>) -> Result<Result<T, Refusal>, Fault> {
        match result {
            Ok(yes) => Ok(Ok(yes)),
            Err(Self::Refused(refusal)) => Ok(Err(refusal)),
            Err(Self::Fault(fault)) => Err(fault),
        }
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<KvRefusal> for No {
    fn from(refusal: KvRefusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<LeaseRefusal> for No {
    fn from(refusal: LeaseRefusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<AuthRefusal> for No {
    fn from(refusal: AuthRefusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
