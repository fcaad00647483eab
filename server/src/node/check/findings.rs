//! The words of a check: what was found, where, what it means, and what to do.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Verdict;
use crate::command::Fault;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// A start puts it right, and nobody was told otherwise.
    Note,
    /// Something is not what was written.
    Damage,
    /// The check itself could not be done.
    Unchecked,
}

#[derive(Debug)]
struct Finding {
    weight: Weight,
    part: &'static str,
    file: Option<String>,
    offset: Option<u64>,
    what: String,
    remedy: Option<String>,
}

/// All that was found, and the facts beside it.
#[derive(Debug, Default)]
pub(super) struct Findings {
    facts: Map<String, Value>,
    found: Vec<Finding>,
}

const REPLACE: &str = "keep a copy of the directory, remove the member from the cluster (etcdctl member remove), empty the directory and add it \
                       again as a new member; of a cluster of one, restore a backup";

/// The file and the offset of a fault's "PATH at byte N".
fn place(what: &str) -> (String, Option<u64>) {
    let parts = what.rsplit_once(" at byte ");
    let at = parts.and_then(|(file, offset)| Some((file.to_owned(), Some(offset.parse().ok()?))));
    at.unwrap_or_else(|| (what.to_owned(), None))
}

/// Whether an error of a file means that it is not what was written, and not that this process may not read it.
fn is_damage(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidData, NotADirectory, NotFound, UnexpectedEof};
    matches!(kind, NotFound | NotADirectory | UnexpectedEof | InvalidData)
}

impl Findings {
    /// Something to know, such as the member's id.
    pub(super) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// Something that a start puts right.
    pub(super) fn note(
        &mut self,
        part: &'static str,
        file: &Path,
        offset: Option<u64>,
        what: &str,
    ) {
        self.found.push(Finding {
            weight: Weight::Note,
            part,
            file: Some(file.display().to_string()),
            offset,
            what: what.to_owned(),
            remedy: None,
        });
    }

    /// Damage, with what to do about it.
    pub(super) fn damage(
        &mut self,
        part: &'static str,
        what: &str,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (file, offset) = place(what);
        self.found.push(Finding {
            weight: Weight::Damage,
            part,
            file: Some(file),
            offset,
            what: why.into(),
            remedy: Some(remedy.into()),
        });
    }

    /// A fault of a reader; a damaged log or pointer has only one remedy.
    pub(super) fn fault(&mut self, part: &'static str, fault: Fault) {
        self.fault_with(part, fault, REPLACE.to_owned());
    }

    /// As [`fault`](Self::fault), with another remedy.
    pub(super) fn fault_with(&mut self, part: &'static str, fault: Fault, remedy: String) {
        match fault {
            Fault::Corrupt { what, why } => {
                // The log's own words end in the remedy, which is told apart here.
                let why = why.split(". This member can no longer prove").next().unwrap_or_default();
                self.damage(part, &what, why, remedy);
            }
            Fault::Io { path, source } if is_damage(source.kind()) => {
                self.damage(part, &path.display().to_string(), source.to_string(), remedy);
            }
            Fault::Io { path, source } => self.unchecked(format!("{}: {source}", path.display())),
            Fault::Store(why) | Fault::Start(why) => self.unchecked(why),
            Fault::Newer { place, unknown } => self.unchecked(format!("{place}: {unknown}")),
            Fault::UnknownEntry { index, why } => self.unchecked(format!(
                "entry {index} is unknown to this version ({why}): check with the version that wrote it"
            )),
        }
    }

    /// Why it cannot be checked.
    pub(super) fn unchecked(&mut self, why: String) {
        self.found.push(Finding {
            weight: Weight::Unchecked,
            part: "check",
            file: None,
            offset: None,
            what: why,
            remedy: None,
        });
    }

    /// Damage weighs more than what could not be looked at.
    pub(super) fn verdict(&self) -> Verdict {
        let has = |weight| self.found.iter().any(|finding| finding.weight == weight);
        match (has(Weight::Damage), has(Weight::Unchecked)) {
            (true, _) => Verdict::Damaged,
            (false, true) => Verdict::Unchecked,
            (false, false) => Verdict::Whole,
        }
    }

    pub(super) fn json(&self, data_dir: &Path, verdict: &str) -> Value {
        let found = self.found.iter().map(|finding| {
            let Finding { weight, part, file, offset, what, remedy } = finding;
            let weight = match weight {
                Weight::Note => "note",
                Weight::Damage => "damage",
                Weight::Unchecked => "unchecked",
            };
            json!({"kind": weight, "part": part, "file": file, "offset": offset, "what": what, "remedy": remedy})
        });
        json!({
            "dataDir": data_dir.display().to_string(),
            "verdict": verdict,
            "facts": self.facts,
            "findings": found.collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self, data_dir: &Path, verdict: &str) -> String {
        let mut text = format!("{}: {verdict}\n", data_dir.display());
        for (name, value) in &self.facts {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name}: {value}");
        }
        for finding in &self.found {
            let Finding {
                weight,
                part,
                file,
                offset,
                what,
                remedy,
            } = finding;
            let weight = match weight {
                Weight::Note => "note",
                Weight::Damage => "DAMAGE",
                Weight::Unchecked => "not checked",
            };
            let file = file
                .as_ref()
                .map(|file| format!(" {file}"))
                .unwrap_or_default();
            let offset = offset
                .map(|offset| format!(" at byte {offset}"))
                .unwrap_or_default();
            let _ = writeln!(text, "{weight} ({part}):{file}{offset}: {what}");
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "  what to do: {remedy}");
            }
        }
        text
    }
}
