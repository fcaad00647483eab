//! `--feature-gates`: etcd's names are known, and what each would do is done always, or there is nothing to do it to.

use super::{Invalid, invalid};
use crate::cli::Settings;

const FLAG: &str = "feature-gates";

/// Gates that may be on or off: members always compare what they have applied, and two gates say what is done beyond that; leases are
/// always on record, no member stops for defragmentation, renewals and lists of keys are always quick.
const ANY: [&str; 8] = [
    "StopGRPCServiceOnDefrag",
    "InitialCorruptCheck",
    "CompactHashCheck",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "TxnModeWriteWithSharedBuffer",
    "FastLeaseKeepAlive",
    "AllAlpha",
];
/// Gates that can only be off.
const OFF: [&str; 3] = ["SetMemberLocalAddr", "PriorityRequest", "AllBeta"];

/// The gates that make a difference here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gates {
    /// `InitialCorruptCheck`.
    pub(super) compares_first: bool,
    /// `CompactHashCheck`.
    pub(super) raises_corrupt: bool,
}

/// Reads the gates.
///
/// Errors: one that etcd does not know, or that cannot be on here.
pub(super) fn resolve(settings: &Settings) -> Result<Gates, Invalid> {
    let mut gates = Gates::default();
    let text = settings.get(FLAG).unwrap_or_default();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let Some((name, value)) = part.split_once('=') else {
            let why = format!("missing bool value for feature gate {part}, use {part}=true");
            return Err(invalid(FLAG, why));
        };
        let is_on = match value.trim() {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => true,
            "false" | "False" | "FALSE" | "f" | "F" | "0" => false,
            other => {
                let why = format!("invalid value of feature gate {name}: {other}");
                return Err(invalid(FLAG, why));
            }
        };
        let name = name.trim();
        if OFF.contains(&name) && is_on {
            let why = format!("{name} cannot be on in this version");
            return Err(invalid(FLAG, why));
        }
        if !ANY.contains(&name) && !OFF.contains(&name) {
            return Err(invalid(FLAG, format!("unrecognized feature gate: {name}")));
        }
        // As in etcd, a gate's own word counts before that of all, whatever stands first.
        let own = |gate: &str| name == gate || name == "AllAlpha" && !text.contains(gate);
        if own("InitialCorruptCheck") {
            gates.compares_first = is_on;
        }
        if own("CompactHashCheck") {
            gates.raises_corrupt = is_on;
        }
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_gates_are_about_members_that_differ() {
        let gates = |text: &str| {
            let gates = resolve(&Settings::default().with(FLAG, text)).unwrap();
            (gates.compares_first, gates.raises_corrupt)
        };
        assert_eq!(gates(""), (false, false));
        assert_eq!(gates("InitialCorruptCheck=true"), (true, false));
        assert_eq!(gates("CompactHashCheck=true"), (false, true));
        assert_eq!(gates("AllAlpha=true"), (true, true));
        assert_eq!(gates("AllAlpha=true,CompactHashCheck=false"), (true, false));
        assert_eq!(gates("CompactHashCheck=false,AllAlpha=true"), (true, false));
    }

    #[test]
    fn etcds_gates_are_known_and_others_are_not() {
        let check = |text: &str| resolve(&Settings::default().with(FLAG, text)).map(|_| ());
        for fine in [
            "",
            "InitialCorruptCheck=true",
            "LeaseCheckpoint=false, PriorityRequest=false",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for wrong in [
            "Nope=true",
            "InitialCorruptCheck",
            "CompactHashCheck=perhaps",
            "PriorityRequest=1",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
