//! `--config-file`: the same settings, in YAML.
//!
//! Keys are the flags' names; those of TLS stand in two groups. A key without a value says nothing. Durations are in
//! nanoseconds, as Go writes them. Source: etcd `etcd.conf.yml.sample`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Asked, flags};

/// Flags whose plain numbers are nanoseconds.
const DURATIONS: [&str; 3] = [
    "watch-progress-notify-interval",
    "warning-apply-duration",
    "warning-unary-request-duration",
];
/// Groups, and what their keys begin with as flags.
const GROUPS: [(&str, &str); 2] = [
    ("client-transport-security", ""),
    ("peer-transport-security", "peer-"),
];

/// Takes the settings of a file.
///
/// Errors: one line that names the file, or the setting.
pub(super) fn read(path: &str, asked: &mut Asked) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let all: BTreeMap<String, Value> =
        serde_saphyr::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    for (key, value) in all {
        let group = GROUPS.iter().find(|(group, _)| *group == key);
        match (group, value) {
            (Some((_, prefix)), Value::Object(inner)) => {
                for (key, value) in inner {
                    take(&format!("{prefix}{key}"), &value, path, asked)?;
                }
            }
            // Left as a comment with nothing below it.
            (Some(_), Value::Null) => {}
            // Taken for no settings, it would start a server without TLS.
            (Some((group, _)), _) => {
                return Err(format!(
                    "{path}: {group} holds settings of its own, and has none"
                ));
            }
            (None, value) => take(&key, &value, path, asked)?,
        }
    }
    Ok(())
}

fn take(key: &str, value: &Value, path: &str, asked: &mut Asked) -> Result<(), String> {
    let Some(text) = text(key, value) else {
        return Ok(());
    };
    match flags::find(key) {
        Some(flag) => asked.set(flag.name, text, &format!("{path}: {key}")),
        None => {
            // etcd says nothing of it.
            asked
                .warnings
                .push(format!("{path}: {key} is no setting of this server"));
            Ok(())
        }
    }
}

/// A value as a flag would have it; `None` if it says nothing.
fn text(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::Bool(is_on) => Some(is_on.to_string()),
        Value::Number(number) if DURATIONS.contains(&key) => Some(format!("{number}ns")),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Array(items) => {
            let items: Vec<_> = items
                .iter()
                .filter_map(|item| self::text(key, item))
                .collect();
            Some(items.join(",")).filter(|text| !text.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_holds_no_settings_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.conf.yml");
        let path = path.to_str().unwrap();
        for (said, is_taken) in [
            ("client-transport-security: 5", false),
            ("peer-transport-security: [a]", false),
            ("client-transport-security:", true),
            ("client-transport-security:\n  cert-file: a", true),
        ] {
            std::fs::write(path, said).unwrap();
            let read = read(path, &mut Asked::default());
            assert_eq!(read.is_ok(), is_taken, "{said}: {read:?}");
            if let Err(why) = read {
                assert!(why.contains("-transport-security"), "{why}");
            }
        }
    }
}
