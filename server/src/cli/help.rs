//! `--help`: the flags in etcd's groups and order of groups.

use super::flag::{Effect, Flag};
use super::flags;

/// A part of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Member,
    Clustering,
    Security,
    Auth,
    Monitoring,
    Logging,
    Tracing,
    Features,
    Unsafe,
}

impl Group {
    const ALL: [Self; 9] = [
        Self::Member,
        Self::Clustering,
        Self::Security,
        Self::Auth,
        Self::Monitoring,
        Self::Logging,
        Self::Tracing,
        Self::Features,
        Self::Unsafe,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Member => "Member",
            Self::Clustering => "Clustering",
            Self::Security => "Security",
            Self::Auth => "Auth",
            Self::Monitoring => "Profiling and Monitoring",
            Self::Logging => "Logging",
            Self::Tracing => "Distributed tracing",
            Self::Features => "Features",
            Self::Unsafe => "Unsafe feature",
        }
    }

    /// etcd's group of a flag; a member's, where it has none.
    fn of(flag: &Flag) -> Self {
        let is_tls = super::tls::FLAGS.iter().any(|tls| tls.name == flag.name);
        match flag.name {
            "peer-skip-client-san-verification" => Self::Features,
            "cors" | "host-whitelist" => Self::Security,
            _ if is_tls => Self::Security,
            "initial-advertise-peer-urls"
            | "initial-cluster"
            | "initial-cluster-state"
            | "initial-cluster-token"
            | "advertise-client-urls"
            | "strict-reconfig-check"
            | "pre-vote"
            | "auto-compaction-retention"
            | "auto-compaction-mode"
            | "v2-deprecation"
            | "coord-owner" => Self::Clustering,
            name if name.starts_with("discovery") => Self::Clustering,
            "auth-token" | "bcrypt-cost" | "auth-token-ttl" => Self::Auth,
            "enable-pprof" | "metrics" | "listen-metrics-urls" => Self::Monitoring,
            "logger"
            | "log-outputs"
            | "log-level"
            | "log-format"
            | "enable-log-rotation"
            | "log-rotation-config-json"
            | "coord-audit-log"
            | "coord-audit-kinds"
            | "coord-audit-prefixes"
            | "warning-unary-request-duration" => Self::Logging,
            name if name.contains("distributed-tracing") => Self::Tracing,
            "corrupt-check-time"
            | "compact-hash-check-time"
            | "compaction-batch-limit"
            | "compaction-sleep-interval"
            | "watch-progress-notify-interval"
            | "warning-apply-duration"
            | "bootstrap-defrag-threshold-megabytes"
            | "max-learners"
            | "downgrade-check-time"
            | "snapshot-catchup-entries" => Self::Features,
            "force-new-cluster" | "unsafe-no-fsync" => Self::Unsafe,
            _ => Self::Member,
        }
    }
}

const USAGE: &str = "\
coord-server: one member of a replicated key-value store that speaks the etcd v3 protocol

Usage:

  coord-server [flags]
    Start a member; with no flags it serves one on http://localhost:2379.

  coord-server check [flags] [DIR]
    Look at a data directory: whether all is there, and what the log holds.

  coord-server --version
    Show the version.

  coord-server -h | --help
    Show this.

  coord-server --config-file
    Path of a file with these settings; other flags and variables are ignored then.

Each flag may also be given as an environment variable: ETCD_ and its name in upper case with underscores.
";

/// All of it.
pub(super) fn text() -> String {
    let mut text = USAGE.to_owned();
    for group in Group::ALL {
        text.push_str(&format!("\n{}:\n", group.title()));
        let is_its = |flag: &&Flag| Group::of(flag) == group && flag.effect != Effect::Missing;
        for flag in flags::all().filter(is_its) {
            let Flag {
                name,
                default,
                help,
                ..
            } = flag;
            let told = match flag.effect {
                Effect::Serves => (*help).to_owned(),
                Effect::Nothing(why) => format!("No effect: {why}."),
                Effect::Only(values) => format!("Only '{}'.", values.join("' or '")),
                Effect::Missing => continue,
            };
            let default = match flag.effect {
                Effect::Serves => format!(" '{default}'"),
                Effect::Nothing(_) | Effect::Only(_) | Effect::Missing => String::new(),
            };
            text.push_str(&format!("  --{name}{default}\n    {told}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_that_can_be_given_stands_in_a_group_once() {
        let text = text();
        for flag in flags::all().filter(|flag| flag.effect != Effect::Missing) {
            let line = format!("\n  --{}", flag.name);
            let found = text.match_indices(&line).filter(|(at, _)| {
                let after = text[at + line.len()..].chars().next();
                after.is_some_and(char::is_whitespace)
            });
            assert!(found.count() >= 1, "{}", flag.name);
        }
        let places = Group::ALL.map(|group| text.find(&format!("\n{}:\n", group.title())));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{places:?}"
        );
    }
}
