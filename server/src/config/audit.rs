//! `--coord-audit-log` and what it records.

use super::{Invalid, invalid};
use crate::audit::{Destination, Filter, Kind};
use crate::cli::Settings;

const LOG: &str = "coord-audit-log";
const KINDS: &str = "coord-audit-kinds";
const PREFIXES: &str = "coord-audit-prefixes";

/// The audit log that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where it goes.
    pub destination: Destination,
    /// The operations that are recorded.
    pub filter: Filter,
}

/// Errors: a kind that there is not, or a filter without a log.
pub(super) fn resolve(settings: &Settings) -> Result<Option<Audit>, Invalid> {
    let [log, kinds, prefixes] =
        [LOG, KINDS, PREFIXES].map(|flag| settings.get(flag).unwrap_or_default());
    let destination = match log {
        "" => {
            for (flag, value) in [(KINDS, kinds), (PREFIXES, prefixes)] {
                if !value.is_empty() {
                    return Err(invalid(flag, format!("is of use only with --{LOG}")));
                }
            }
            return Ok(None);
        }
        "stdout" => Destination::Stdout,
        "stderr" => Destination::Stderr,
        path => Destination::File(path.into()),
    };
    let mut filter = Filter::default();
    if !kinds.is_empty() {
        filter.kinds = parts(kinds).map(kind).collect::<Result<_, _>>()?;
        if filter.kinds.is_empty() {
            return Err(invalid(KINDS, format!("'{kinds}' names no kind")));
        }
    }
    // As it stands: a space may be part of a key.
    filter.prefixes = parts(prefixes).map(str::to_owned).collect();
    Ok(Some(Audit {
        destination,
        filter,
    }))
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|part| !part.is_empty())
}

fn kind(name: &str) -> Result<Kind, Invalid> {
    let name = name.trim();
    Kind::of(name).ok_or_else(|| {
        let all = Kind::ALL.map(Kind::name).join(", ");
        invalid(KINDS, format!("'{name}' is not one of {all}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(pairs: &[(&'static str, &str)]) -> Result<Option<Audit>, Invalid> {
        let given = pairs.iter();
        resolve(&given.fold(Settings::default(), |all, (name, value)| {
            all.with(name, *value)
        }))
    }

    #[test]
    fn there_is_no_log_unless_it_is_asked_for_and_then_of_all() {
        assert_eq!(audit(&[]), Ok(None));
        let asked = audit(&[(LOG, "/var/log/audit")]).unwrap().unwrap();
        assert_eq!(
            asked.destination,
            Destination::File("/var/log/audit".into())
        );
        assert_eq!(asked.filter, Filter::default());
        let asked = audit(&[
            (LOG, "stderr"),
            (KINDS, "auth, write"),
            (PREFIXES, "/a,/b c"),
        ]);
        let asked = asked.unwrap().unwrap();
        assert_eq!(asked.destination, Destination::Stderr);
        assert_eq!(asked.filter.kinds, [Kind::Auth, Kind::Write]);
        assert_eq!(asked.filter.prefixes, ["/a", "/b c"]);
    }

    #[test]
    fn a_filter_that_cannot_be_is_refused_under_its_flag() {
        for (flag, pairs) in [
            (KINDS, vec![(LOG, "f"), (KINDS, "reads")]),
            (KINDS, vec![(LOG, "f"), (KINDS, ",")]),
            (KINDS, vec![(KINDS, "read")]),
            (PREFIXES, vec![(PREFIXES, "/a")]),
        ] {
            assert_eq!(audit(&pairs).unwrap_err().flag, flag, "{pairs:?}");
        }
    }
}
