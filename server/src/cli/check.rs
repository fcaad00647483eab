//! The words of `coord-server check`.

use std::path::PathBuf;

use super::parse_bool;

/// A question to `coord-server check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckWords {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The result as one JSON object.
    pub json: bool,
    /// Print the committed entries.
    pub dump_log: bool,
}

pub(super) const HELP: &str = "\
coord-server check: whether a data directory holds all that its member was told is on disk

Usage:
  coord-server check [flags] [DIR]
    Reads the log, the state and whether the one is what the other comes to, with the readers of a start.
    Changes not a byte. A member that has the directory open is refused.

Flags:
  --data-dir 'default.etcd'
    Path of the data directory; DIR says the same, and so does ETCD_DATA_DIR.
  --json 'false'
    Print the result as one JSON object.
  --dump-log 'false'
    Print the committed entries, one JSON object a line; the result goes to standard error then.

Exit status:
  0 all is there; 1 something is damaged: which file, where, what it means and what to do;
  2 it could not be checked. A copy of the state's journals is made below TMPDIR.
";

/// Reads the words after `check`; `None` if they ask for help.
///
/// Errors: a word that means nothing.
pub(super) fn read(
    words: impl IntoIterator<Item = String>,
    data_dir: Option<String>,
) -> Result<Option<CheckWords>, String> {
    let mut asked = CheckWords {
        data_dir: data_dir.unwrap_or_else(|| "default.etcd".to_owned()).into(),
        json: false,
        dump_log: false,
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(bare) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            asked.data_dir = word.into();
            continue;
        };
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (bare, None),
        };
        let switch = |value: Option<String>| match value {
            None => Ok(true),
            Some(text) => parse_bool(&text)
                .ok_or_else(|| format!("invalid boolean value \"{text}\" for -{name}")),
        };
        match name {
            "h" | "help" => return Ok(None),
            "json" => asked.json = switch(value)?,
            "dump-log" => asked.dump_log = switch(value)?,
            "data-dir" => {
                let value = value.or_else(|| words.next());
                asked.data_dir = value.ok_or("flag needs an argument: -data-dir")?.into();
            }
            _ => {
                return Err(format!(
                    "flag provided but not defined: -{name}; see 'coord-server check --help'"
                ));
            }
        }
    }
    Ok(Some(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Option<CheckWords>, String> {
        read(
            line.split_whitespace().map(str::to_owned),
            Some("e".to_owned()),
        )
    }

    #[test]
    fn the_directory_may_stand_alone_or_in_a_flag_or_a_variable() {
        for (line, dir) in [
            ("", "e"),
            ("d", "d"),
            ("--data-dir=d", "d"),
            ("-data-dir d --json", "d"),
        ] {
            let asked = read_line(line).unwrap().unwrap();
            assert_eq!(asked.data_dir, PathBuf::from(dir), "{line}");
            assert_eq!(asked.json, line.contains("json"));
        }
        assert_eq!(read_line("--help"), Ok(None));
        for wrong in ["--nope", "--json=perhaps", "--data-dir"] {
            assert!(read_line(wrong).is_err(), "{wrong}");
        }
    }
}
