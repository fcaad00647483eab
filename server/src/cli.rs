//! The command line: etcd's flags, in Go's flag syntax.
//!
//! Owns flag names, their help and where a value comes from: the flag, else the `ETCD_` variable, else the default. It
//! turns words into [`Settings`] and checks nothing else; [`Config`](crate::config::Config) does.

use std::collections::BTreeMap;

/// A flag this server knows.
struct Flag {
    name: &'static str,
    is_bool: bool,
    default: &'static str,
    help: &'static str,
}

const fn flag(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        is_bool: false,
        default,
        help,
    }
}

/// All flags in the order of `--help`.
const FLAGS: &[Flag] = &[
    flag("name", "default", "Human-readable name of this member."),
    flag("data-dir", "${name}.etcd", "Path of the data directory."),
    flag(
        "listen-client-urls",
        "http://localhost:2379",
        "Comma-separated URLs to listen on for clients.",
    ),
    flag(
        "advertise-client-urls",
        "http://localhost:2379",
        "Comma-separated URLs that clients are told to use.",
    ),
    flag(
        "listen-peer-urls",
        "http://localhost:2380",
        "Comma-separated URLs to listen on for members.",
    ),
    flag(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "Comma-separated URLs that members are told to use.",
    ),
    flag(
        "initial-cluster",
        "${name}=${initial-advertise-peer-urls}",
        "Members to start with, as name=URL,name=URL.",
    ),
    flag(
        "initial-cluster-state",
        "new",
        "'new' to form a cluster, 'existing' to join one. Ignored once data exists.",
    ),
    flag(
        "initial-cluster-token",
        "etcd-cluster",
        "Tells clusters apart that are formed at the same time.",
    ),
    flag(
        "heartbeat-interval",
        "100",
        "Milliseconds between heartbeats.",
    ),
    flag(
        "election-timeout",
        "1000",
        "Milliseconds without a heartbeat after which a member seeks election.",
    ),
    flag(
        "quota-backend-bytes",
        "0",
        "Bytes of stored data above which writes are refused; 0 is 2 GiB, negative is off.",
    ),
    flag(
        "snapshot-catchup-entries",
        "300000",
        "Log entries kept for members that are behind; one that needs older ones gets a snapshot.",
    ),
    flag("log-level", "info", "One of debug, info, warn, error."),
    flag(
        "coord-owner",
        "",
        "Whose data this must be, such as NAMESPACE/CLUSTER/MEMBER: stamped into a new data directory, any other is \
         refused. With it an empty member that waits forms a cluster alone when POST /coord/bootstrap says so.",
    ),
    Flag {
        name: "version",
        is_bool: true,
        default: "false",
        help: "Print the version and exit.",
    },
];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Run a member.
    Serve(Settings),
    /// Print this and exit with success.
    Print(String),
}

/// Flag values by name; a flag that was not given is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    /// The value given for `name`, if any.
    pub fn get(&self, name: &'static str) -> Option<&str> {
        debug_assert!(
            FLAGS.iter().any(|flag| flag.name == name),
            "{name} is not a flag"
        );
        self.0.get(name).map(String::as_str)
    }

    /// The same settings with `name` set.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        debug_assert!(
            FLAGS.iter().any(|flag| flag.name == name),
            "{name} is not a flag"
        );
        self.0.insert(name, value.into());
        self
    }
}

/// Reads the command line and the environment.
///
/// `words` are the arguments without the program's name. A flag beats its `ETCD_` variable, the last of two equal flags
/// wins. Also returns warnings about `ETCD_` variables that mean nothing here.
///
/// Errors: one line that names the flag and says what to do; exit with status 2, as etcd does.
pub fn parse(
    words: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Invocation, Vec<String>), String> {
    let mut settings = Settings::default();
    let warnings = read_environment(environment, &mut settings);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "-h" | "-help" | "--help") {
            return Ok((Invocation::Print(help()), warnings));
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
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
            return Err(format!(
                "flag provided but not defined: -{name}; see 'coord-server --help'"
            ));
        };
        let value = match inline {
            Some(value) => value,
            None if flag.is_bool => "true".to_owned(),
            None => words
                .next()
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        settings.0.insert(flag.name, value);
    }
    let wants_version = match settings.get("version") {
        None => false,
        Some(text) => parse_bool(text)
            .ok_or_else(|| format!("invalid boolean value \"{text}\" for -version"))?,
    };
    if wants_version {
        return Ok((Invocation::Print(version()), warnings));
    }
    Ok((Invocation::Serve(settings), warnings))
}

fn read_environment(
    environment: impl IntoIterator<Item = (String, String)>,
    settings: &mut Settings,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (variable, value) in environment {
        let Some(rest) = variable.strip_prefix("ETCD_") else {
            continue;
        };
        let name = rest.to_ascii_lowercase().replace('_', "-");
        match FLAGS.iter().find(|flag| flag.name == name) {
            Some(flag) => {
                settings.0.insert(flag.name, value);
            }
            None => warnings.push(format!("unrecognized environment variable {variable}")),
        }
    }
    warnings
}

/// The spellings Go's `strconv.ParseBool` takes.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The etcd version this server is a drop-in for; also what Status, `/version` and the metrics say.
pub const ETCD_VERSION: &str = "3.6.7";
/// What an etcd of that version calls its cluster version, and the version of its storage format.
pub const ETCD_CLUSTER_VERSION: &str = "3.6.0";

/// The lines of `--version`. The first is what programs that start an etcd look for.
fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nCoord Version: {}\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn help() -> String {
    let mut text = String::from(
        "coord-server: one member of a replicated key-value store that speaks the etcd v3 protocol\n\n\
         Usage:\n  coord-server [flags]\n\n\
         With no flags it serves one member on http://localhost:2379. Each flag may also be given as an\n\
         environment variable: ETCD_ and its name in upper case with underscores.\n\nFlags:\n",
    );
    for flag in FLAGS {
        let name = if flag.is_bool {
            format!("--{}", flag.name)
        } else {
            format!("--{} '{}'", flag.name, flag.default)
        };
        text.push_str(&format!("  {name}\n        {}\n", flag.help));
    }
    text
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
            Invocation::Print(text) => panic!("printed {text}"),
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

    #[test]
    fn a_flag_beats_its_variable() {
        let environment = [
            ("ETCD_NAME".to_owned(), "env".to_owned()),
            ("ETCD_DATA_DIR".to_owned(), "/d".to_owned()),
        ];
        let (invocation, warnings) = parse(words("--name=flag"), environment).unwrap();
        let Invocation::Serve(settings) = invocation else {
            panic!("did not serve")
        };
        assert_eq!(
            (settings.get("name"), settings.get("data-dir")),
            (Some("flag"), Some("/d"))
        );
        assert!(warnings.is_empty());
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
        assert!(text.starts_with("etcd Version: 3.6."), "{text}");
    }
}
