//! Where log lines go and how they look.

use serde_json::Value;

use super::{Invalid, invalid};
use crate::cli::Settings;

const OUTPUTS: &str = "log-outputs";
const ROTATION: &str = "log-rotation-config-json";
/// lumberjack's size where none is given.
const MEGABYTES_DEFAULT: u64 = 100;

/// Log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// Whether lines are for people and not JSON.
    pub is_console: bool,
    /// Where they go: each once. None is nowhere.
    pub outputs: Vec<LogOutput>,
}

/// One place for log lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to, and set aside as this says.
    File(String, Option<LogRotation>),
}

/// When a log file is set aside, and what becomes of those that were: lumberjack's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogRotation {
    /// Bytes of a file at most.
    pub bytes_max: u64,
    /// Days that one set aside is kept; 0 is for ever.
    pub days_max: u64,
    /// Files set aside that are kept; 0 is all.
    pub files_max: usize,
    /// Whether they are compressed with gzip.
    pub compresses: bool,
}

/// Reads the settings of logging.
///
/// Errors: a value that cannot be.
pub(super) fn resolve(settings: &Settings) -> Result<Logging, Invalid> {
    let format = settings.get("log-format").unwrap_or("json");
    let is_console = match format {
        "json" => false,
        "console" => true,
        other => {
            let why = format!("unknown log format: {other}, supported values json, console");
            return Err(invalid("log-format", why));
        }
    };
    Ok(Logging {
        level: level(settings)?,
        is_console,
        outputs: outputs(settings)?,
    })
}

fn level(settings: &Settings) -> Result<String, Invalid> {
    let text = settings.get("log-level").unwrap_or("info");
    match text {
        "debug" | "info" | "warn" | "error" => Ok(text.to_owned()),
        _ => Err(invalid(
            "log-level",
            format!("'{text}' is not one of debug, info, warn, error"),
        )),
    }
}

fn outputs(settings: &Settings) -> Result<Vec<LogOutput>, Invalid> {
    let text = settings.get(OUTPUTS).unwrap_or("default");
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let rotation = match settings.get("enable-log-rotation") {
        Some("true") => Some(rotation(settings.get(ROTATION).unwrap_or("{}"))?),
        _ => None,
    };
    let mut outputs = Vec::new();
    for word in &words {
        outputs.push(match *word {
            "default" if words.len() > 1 => {
                let why = "multi logoutput for \"default\" is not supported: name stderr instead";
                return Err(invalid(OUTPUTS, why));
            }
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                let why = "systemd/journal is not there: systemd takes what goes to stderr";
                return Err(invalid(OUTPUTS, why));
            }
            "" => return Err(invalid(OUTPUTS, "an output has no name")),
            path => {
                let path = path.strip_prefix("file://").unwrap_or(path);
                if path.contains("://") {
                    let why = format!("'{path}' is neither stdout, stderr nor a file");
                    return Err(invalid(OUTPUTS, why));
                }
                LogOutput::File(path.to_owned(), rotation)
            }
        });
    }
    let files = |output: &&LogOutput| matches!(output, LogOutput::File(..));
    let files = outputs.iter().filter(files).count();
    if rotation.is_some() && (files > 1 || files == 0 && outputs.len() == 1) {
        let why = "a single file path is required where --enable-log-rotation is set";
        return Err(invalid(OUTPUTS, why));
    }
    // As etcd: this one says that nothing is to be kept.
    if words.contains(&"/dev/null") {
        return Ok(Vec::new());
    }
    outputs.sort();
    outputs.dedup();
    Ok(outputs)
}

fn rotation(text: &str) -> Result<LogRotation, Invalid> {
    let wrong = |why: String| invalid(ROTATION, why);
    let read: Value = serde_json::from_str(text)
        .map_err(|error| wrong(format!("improperly formatted log rotation config: {error}")))?;
    let Value::Object(read) = read else {
        return Err(wrong(
            "invalid log rotation config: not an object".to_owned(),
        ));
    };
    let mut rotation = LogRotation {
        bytes_max: MEGABYTES_DEFAULT << 20,
        days_max: 0,
        files_max: 0,
        compresses: false,
    };
    for (key, value) in read {
        // Go's names know no case.
        let name = key.to_ascii_lowercase();
        let number = || {
            let number = value
                .as_u64()
                .filter(|number| *number <= u64::from(u32::MAX));
            number.ok_or_else(|| wrong(format!("invalid log rotation config: {key} is {value}")))
        };
        let flag = || {
            let flag = value.as_bool();
            flag.ok_or_else(|| wrong(format!("invalid log rotation config: {key} is {value}")))
        };
        match name.as_str() {
            "maxsize" => {
                rotation.bytes_max = match number()? {
                    0 => MEGABYTES_DEFAULT,
                    megabytes => megabytes,
                } << 20;
            }
            "maxage" => rotation.days_max = number()?,
            "maxbackups" => rotation.files_max = usize::try_from(number()?).unwrap_or(usize::MAX),
            "compress" => rotation.compresses = flag()?,
            "localtime" if flag()? => {
                let why = "localtime cannot be true: files that are set aside are named in UTC";
                return Err(wrong(why.to_owned()));
            }
            // The file is the one that --log-outputs names; Go passes over what it does not know.
            _ => {}
        }
    }
    Ok(rotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs_of(pairs: &[(&'static str, &str)]) -> Result<Vec<LogOutput>, Invalid> {
        let settings = pairs
            .iter()
            .fold(Settings::default(), |all, (name, value)| {
                all.with(name, *value)
            });
        resolve(&settings).map(|logging| logging.outputs)
    }

    fn file(path: &str) -> LogOutput {
        LogOutput::File(path.to_owned(), None)
    }

    #[test]
    fn outputs_are_named_once_each() {
        let outputs = |text| outputs_of(&[(OUTPUTS, text)]);
        let (stderr, stdout) = (LogOutput::Stderr, LogOutput::Stdout);
        assert_eq!(outputs_of(&[]), Ok(vec![stderr.clone()]));
        assert_eq!(outputs("default"), Ok(vec![stderr.clone()]));
        let all = vec![stderr, stdout, file("/a"), file("b.log")];
        assert_eq!(outputs("stdout,/a,b.log,stderr,file:///a"), Ok(all));
        assert_eq!(outputs("stdout,/dev/null"), Ok(Vec::new()));
        for wrong in [
            "default,stderr",
            "systemd/journal",
            "http://a/b",
            "a,,b",
            "",
        ] {
            let refused = outputs(wrong).unwrap_err();
            assert_eq!(refused.flag, OUTPUTS, "{wrong}");
        }
    }

    #[test]
    fn rotation_wants_one_file_and_lumberjacks_fields() {
        let rotated = |outputs, json| {
            let on = ("enable-log-rotation", "true");
            outputs_of(&[on, (OUTPUTS, outputs), (ROTATION, json)])
        };
        let json = r#"{"maxsize": 3, "MaxAge": 4, "maxbackups": 5, "localtime": false, "compress": true, "x": []}"#;
        let rotation = LogRotation {
            bytes_max: 3 << 20,
            days_max: 4,
            files_max: 5,
            compresses: true,
        };
        let file = LogOutput::File("/a".to_owned(), Some(rotation));
        assert_eq!(
            rotated("stderr,/a", json),
            Ok(vec![LogOutput::Stderr, file])
        );
        let usual = rotated("/a", "{}").unwrap();
        assert!(
            matches!(usual[0], LogOutput::File(_, Some(usual)) if usual.bytes_max == 100 << 20)
        );
        for (outputs, json, flag) in [
            ("stderr", "{}", OUTPUTS),
            ("/a,/b", "{}", OUTPUTS),
            ("/a", "{", ROTATION),
            ("/a", "5", ROTATION),
            ("/a", r#"{"maxsize": "5"}"#, ROTATION),
            ("/a", r#"{"maxage": -1}"#, ROTATION),
            ("/a", r#"{"localtime": true}"#, ROTATION),
        ] {
            assert_eq!(
                rotated(outputs, json).unwrap_err().flag,
                flag,
                "{outputs} {json}"
            );
        }
        // Without the switch it means nothing, as in etcd.
        assert!(outputs_of(&[(ROTATION, "{")]).is_ok());
    }
}
