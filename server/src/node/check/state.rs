//! The state, of which a copy is opened as a start opens it.

use std::path::Path;

use super::findings::Findings;
use super::log::Log;
use super::scratch::Scratch;
use crate::command::Fault;
use crate::disk;
use crate::state::State;

/// The folder of the copy.
const COPY: &str = "state";

/// Reads every row; `None` if there is no state, or none that is whole.
///
/// Errors: why it cannot be looked at.
pub(super) fn look(
    path: &Path,
    scratch: &Scratch,
    log: Option<&Log>,
    findings: &mut Findings,
) -> Result<Option<State>, String> {
    let contents = match disk::contents(path) {
        Ok(contents) => contents,
        Err(fault) => {
            findings.fault("state", fault);
            return Ok(None);
        }
    };
    for superseded in &contents.superseded {
        findings.note(
            "state",
            superseded,
            None,
            "a state that another one took the place of; a start removes it",
        );
    }
    for aside in &contents.set_aside {
        findings.note(
            "state",
            aside,
            None,
            "set aside as damaged at an earlier start, to look at; it can be removed",
        );
    }
    let Some(current) = contents.current else {
        return Ok(None);
    };
    findings.fact("state", current.display().to_string());
    if let Some(why) = contents.condemned {
        let what = current.display().to_string();
        findings.damage("state", &what, why, remedy(log));
        return Ok(None);
    }
    let copied = scratch.path().join(COPY);
    disk::copy(path, &copied).map_err(|fault| fault.to_string())?;
    match State::inspect(&copied) {
        Ok(state) => {
            findings.fact("applied", state.applied().map(|applied| applied.index));
            findings.fact("revision", state.revision().0);
            findings.fact("compacted", state.compacted().map(|floor| floor.0));
            findings.fact("featureLevel", state.feature_level());
            findings.fact("runningHash", state.running_hash().to_string());
            Ok(Some(state))
        }
        Err(fault) => {
            findings.fault_with("state", of_original(fault, &copied, path), remedy(log));
            Ok(None)
        }
    }
}

/// The fault in words that name the original, not the copy.
fn of_original(fault: Fault, copied: &Path, path: &Path) -> Fault {
    let (copied, path) = (copied.display().to_string(), path.display().to_string());
    let name = |text: String| text.replace(&copied, &path);
    match fault {
        Fault::Corrupt { what, why } => Fault::Corrupt {
            what: name(what),
            why: name(why),
        },
        Fault::Store(why) => Fault::Store(name(why)),
        Fault::Newer { place, unknown } => Fault::Newer {
            place: name(place),
            unknown,
        },
        Fault::Io { .. } | Fault::UnknownEntry { .. } | Fault::Start(_) => fault,
    }
}

/// The way out of a damaged state.
pub(super) fn remedy(log: Option<&Log>) -> String {
    match log {
        Some(Log { is_complete: true, .. }) => {
            "start the member: it sets the state aside and rebuilds it from its log, which is whole and complete".to_owned()
        }
        Some(_) => "start the member beside the others: it sets the state aside and takes another member's; of a cluster of one, restore a backup"
            .to_owned(),
        None => "see what is said of the log".to_owned(),
    }
}
