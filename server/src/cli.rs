//! The command line: etcd's flags, in Go's flag syntax.
//!
//! Owns flag names, their help and where a value comes from: the flag, else the `ETCD_` variable, else the default; or the
//! file that `--config-file` names, and then that alone. It turns words into [`Settings`] and says what cannot be had
//! here; [`Config`](crate::config::Config) checks the values. Read `flags.rs` first: it is the table.

mod check;
mod file;
mod flag;
mod flags;
mod help;
mod tls;

use std::collections::BTreeMap;

pub use check::CheckWords;
use flag::{Effect, Flag};

/// The action that the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Run a member.
    Serve(Settings),
    /// Look at a data directory.
    Check(CheckWords),
    /// Print this and exit with success.
    Print(String),
}

/// Flag values by name; a flag that was not given is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    /// The value given for `name`, if any.
    pub fn get(&self, name: &'static str) -> Option<&str> {
        debug_assert!(flags::find(name).is_some(), "{name} is not a flag");
        self.0.get(name).map(String::as_str)
    }

    /// The same settings with `name` set.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        debug_assert!(flags::find(name).is_some(), "{name} is not a flag");
        self.0.insert(name, value.into());
        self
    }
}

/// Reads the command line, and the environment or the file that it names.
///
/// `words` are the arguments without the program's name. The last of two equal flags wins. Also returns warnings: about
/// `ETCD_` variables that mean nothing here, and settings that have no effect.
///
/// Errors: a text that names all flags that are unknown or cannot be had; exit with status 2, as etcd does. The same
/// setting by flag and by variable is an error, as in etcd.
pub fn parse(
    words: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Invocation, Vec<String>), String> {
    let mut words = words.into_iter().peekable();
    if words.next_if(|word| word == "check").is_some() {
        let mut environment = environment.into_iter();
        let data_dir = environment.find(|(variable, _)| variable == "ETCD_DATA_DIR");
        let asked = check::read(words, data_dir.map(|(_, data_dir)| data_dir))?;
        let print = || Invocation::Print(check::HELP.to_owned());
        return Ok((asked.map_or_else(print, Invocation::Check), Vec::new()));
    }
    let mut asked = Asked::default();
    let Given { flags, help } = read_words(words, &mut asked)?;
    if help {
        return Ok((Invocation::Print(help::text()), Vec::new()));
    }
    if flags.get("version").is_some_and(|text| text == "true") {
        return Ok((Invocation::Print(version()), Vec::new()));
    }
    let environment: Vec<_> = environment
        .into_iter()
        .filter(|(variable, _)| variable.starts_with(PREFIX))
        .collect();
    let in_environment = environment
        .iter()
        .find(|(variable, path)| variable == "ETCD_CONFIG_FILE" && !path.is_empty());
    let named = flags.get("config-file").cloned();
    let path = named
        .filter(|path| !path.is_empty())
        .or_else(|| in_environment.map(|(_, path)| path.clone()));
    match path {
        Some(path) => {
            asked.warnings.push(format!(
                "settings are those of {path}: other flags and variables are ignored"
            ));
            file::read(&path, &mut asked)?;
        }
        None => {
            read_environment(environment, &flags, &mut asked)?;
            for (name, value) in flags {
                asked.set(name, value, &format!("--{name}"))?;
            }
        }
    }
    asked.finish()
}

/// The prefix of this server's variables.
const PREFIX: &str = "ETCD_";

/// The settings asked for so far.
#[derive(Debug, Default)]
struct Asked {
    settings: Settings,
    warnings: Vec<String>,
    unknown: Vec<String>,
    /// Known, and not to be had: each with why.
    refused: Vec<String>,
}

/// The flags of the command line.
struct Given {
    flags: BTreeMap<&'static str, String>,
    help: bool,
}

impl Asked {
    /// Takes a value; `from` names where it was given.
    ///
    /// Errors: a switch that is neither on nor off.
    fn set(&mut self, name: &'static str, value: String, from: &str) -> Result<(), String> {
        let Some(flag) = flags::find(name) else {
            return Ok(());
        };
        let value = in_go_words(flag, value)?;
        match flag.effect {
            Effect::Serves => {
                self.settings.0.insert(flag.name, value);
            }
            Effect::Nothing(why) => self.warnings.push(format!("{from} has no effect: {why}")),
            Effect::Only(values) if values.contains(&value.as_str()) => {}
            Effect::Only(values) => {
                let only = values.join("' or '");
                self.refused
                    .push(format!("{from}='{value}' is not to be had, only '{only}'"));
            }
            Effect::Missing => self.refused.push(format!("{from} is not there yet")),
        }
        Ok(())
    }

    fn finish(self) -> Result<(Invocation, Vec<String>), String> {
        let Self {
            settings,
            warnings,
            unknown,
            refused,
        } = self;
        if unknown.is_empty() && refused.is_empty() {
            return Ok((Invocation::Serve(settings), warnings));
        }
        let unknown: Vec<_> = unknown.iter().map(|name| format!("-{name}")).collect();
        let unknown = (!unknown.is_empty())
            .then(|| format!("flag provided but not defined: {}", unknown.join(", ")));
        let all: Vec<_> = unknown.into_iter().chain(refused).collect();
        Err(format!(
            "{}; see 'coord-server --help' and docs/compatibility.md",
            all.join("; ")
        ))
    }
}

/// A switch's value as `true` or `false`; any other flag's as it is.
fn in_go_words(flag: &Flag, value: String) -> Result<String, String> {
    if !flag.is_bool {
        return Ok(value);
    }
    match parse_bool(&value) {
        Some(is_on) => Ok(is_on.to_string()),
        None => Err(format!(
            "invalid boolean value \"{value}\" for -{}",
            flag.name
        )),
    }
}

fn read_words(words: impl IntoIterator<Item = String>, asked: &mut Asked) -> Result<Given, String> {
    let mut given = Given {
        flags: BTreeMap::new(),
        help: false,
    };
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "-h" | "-help" | "--help") {
            given.help = true;
            return Ok(given);
        }
        let Some(bare) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            return Err(format!(
                "'{word}' is not a valid flag; see 'coord-server --help'"
            ));
        };
        let (name, inline) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (bare, None),
        };
        let Some(flag) = flags::find(name) else {
            asked.unknown.push(name.to_owned());
            // The next word may be its value: nobody knows.
            if inline.is_none() {
                words.next_if(|next| !next.starts_with('-'));
            }
            continue;
        };
        let value = match inline {
            Some(value) => value,
            None if flag.is_bool => "true".to_owned(),
            None => words
                .next()
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        given.flags.insert(flag.name, in_go_words(flag, value)?);
    }
    Ok(given)
}

/// As etcd: an empty variable says nothing, one that a flag repeats is an error, and so is the flag.
fn read_environment(
    environment: Vec<(String, String)>,
    flags: &BTreeMap<&'static str, String>,
    asked: &mut Asked,
) -> Result<(), String> {
    let mut conflicts = Vec::new();
    for (variable, value) in environment {
        let rest = variable.strip_prefix(PREFIX).unwrap_or_default();
        let name = rest.to_ascii_lowercase().replace('_', "-");
        match flags::find(&name) {
            Some(flag) if flags.contains_key(flag.name) => conflicts.push(variable),
            Some(flag) if flag.name != "version" => {
                if !value.is_empty() {
                    asked.set(flag.name, value, &variable)?;
                }
            }
            Some(_) | None => asked
                .warnings
                .push(format!("unrecognized environment variable {variable}")),
        }
    }
    if conflicts.is_empty() {
        return Ok(());
    }
    Err(format!(
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment \
         variable or disable flag): {}",
        conflicts.join(", ")
    ))
}

/// The spellings Go's `strconv.ParseBool` takes.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The etcd version this server is a drop-in for; also what Status, `/version` and the metrics say.
pub const ETCD_VERSION: &str = "3.7.3";
/// The cluster version of an etcd of that version, and the version of its storage format.
pub const ETCD_CLUSTER_VERSION: &str = "3.7.0";

/// The lines of `--version`. The first is what programs that start an etcd look for.
fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nCoord Version: {}\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn serve(line: &str) -> Settings {
        match parse(words(line), []).unwrap().0 {
            Invocation::Serve(settings) => settings,
            other => panic!("asked for {other:?}"),
        }
    }

    #[test]
    fn one_or_two_dashes_with_equals_or_space_mean_the_same() {
        for line in [
            "--name=a",
            "-name=a",
            "--name a",
            "-name a",
            "--name=b --name=a",
        ] {
            assert_eq!(serve(line).get("name"), Some("a"), "{line}");
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_setting_comes_from_a_variable_and_an_empty_one_says_nothing() {
        let environment = variables(&[("ETCD_DATA_DIR", "/d"), ("ETCD_LOG_LEVEL", "")]);
        let (invocation, warnings) = parse(words("--name=flag"), environment).unwrap();
        let Invocation::Serve(settings) = invocation else {
            panic!("did not serve")
        };
        assert_eq!(
            (settings.get("name"), settings.get("data-dir")),
            (Some("flag"), Some("/d"))
        );
        assert_eq!((settings.get("log-level"), warnings.len()), (None, 0));
    }

    #[test]
    fn the_same_setting_by_flag_and_by_variable_is_refused_by_name() {
        let environment = variables(&[("ETCD_NAME", "a"), ("ETCD_DATA_DIR", "d")]);
        let error = parse(words("--name=a --data-dir=d"), environment).unwrap_err();
        assert!(error.contains("ETCD_NAME, ETCD_DATA_DIR"), "{error}");
    }

    #[test]
    fn everything_that_cannot_be_had_is_named_at_once() {
        let environment = variables(&[("ETCD_WAL_DIR", "/w")]);
        let line = "--nope 5 -socket-reuse-port --name=a --nope2=1 --proxy=on";
        let error = parse(words(line), environment).unwrap_err();
        for part in [
            "flag provided but not defined: -nope, -nope2",
            "--socket-reuse-port='true' is not to be had",
            "--proxy='on'",
            "ETCD_WAL_DIR is not there yet",
        ] {
            assert!(error.contains(part), "no {part} in {error}");
        }
    }

    #[test]
    fn what_has_no_effect_is_a_warning_that_says_why() {
        let line = "--snapshot-count=10000 --pre-vote=1 --logger zap --enable-pprof";
        let (_, warnings) = parse(words(line), []).unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|warning| warning.contains(" has no effect: "))
        );
    }

    #[test]
    fn a_file_takes_the_place_of_flags_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.yml");
        let text = "name: f\nheartbeat-interval: 200\nwatch-progress-notify-interval: 5000000000\n\
                    pre-vote: true\nwal-dir:\nlog-outputs: [stderr]\nno-such: 1\n";
        std::fs::write(&path, text).unwrap();
        let environment = variables(&[("ETCD_NAME", "e")]);
        let line = format!("--config-file={} --data-dir=d", path.display());
        let (invocation, warnings) = parse(words(&line), environment.clone()).unwrap();
        let Invocation::Serve(settings) = invocation else {
            panic!("did not serve")
        };
        let get = |name| settings.get(name);
        assert_eq!((get("name"), get("data-dir")), (Some("f"), None));
        assert_eq!(get("heartbeat-interval"), Some("200"));
        assert_eq!(get("watch-progress-notify-interval"), Some("5000000000ns"));
        assert!(warnings.iter().any(|warning| warning.contains("no-such")));
        std::fs::write(&path, "wal-dir: /w\nsocket-reuse-port: true\n").unwrap();
        let error = parse(words(&line), environment).unwrap_err();
        assert!(
            error.contains("wal-dir") && error.contains("socket-reuse-port"),
            "{error}"
        );
        assert!(parse(words("--config-file=/nowhere"), []).is_err());
    }

    #[test]
    fn an_unknown_variable_is_only_a_warning() {
        let (_, warnings) = parse([], [("ETCD_NOPE".to_owned(), "1".to_owned())]).unwrap();
        assert_eq!(warnings, ["unrecognized environment variable ETCD_NOPE"]);
    }

    #[test]
    fn a_wrong_word_is_refused_by_name() {
        for (line, part) in [
            ("--nope=1", "flag provided but not defined: -nope"),
            ("--name", "flag needs an argument: -name"),
            ("stray", "'stray' is not a valid flag"),
            (
                "--version=perhaps",
                "invalid boolean value \"perhaps\" for -version",
            ),
        ] {
            let error = parse(words(line), []).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn version_starts_with_the_line_that_tools_look_for() {
        let (Invocation::Print(text), _) = parse(words("--version"), []).unwrap() else {
            panic!("did not print")
        };
        assert!(text.starts_with("etcd Version: 3.7."), "{text}");
    }
}
