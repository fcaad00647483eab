//! `--feature-gates`: etcd's names are known, and what each would do is done always, or there is nothing to do it to.

use super::{Invalid, invalid};
use crate::cli::Settings;

const FLAG: &str = "feature-gates";

/// Gates that may be on or off: members always compare what they have applied, leases are always on record, no member
/// stops for defragmentation, renewals and lists of keys are always quick.
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

/// Checks the gates.
///
/// Errors: one that etcd does not know, or that cannot be on here.
pub(super) fn check(settings: &Settings) -> Result<(), Invalid> {
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
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_gates_are_known_and_others_are_not() {
        let check = |text: &str| check(&Settings::default().with(FLAG, text));
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
