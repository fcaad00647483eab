//! The table of flags: etcd's names and defaults, and what each does here.

use super::flag::Effect::{self, Missing, Nothing, Only};
use super::flag::{Flag, flag, other, other_switch, switch};

const BBOLT: Effect = Nothing("there is no bbolt file: state is kept by fjall");
const WAL: Effect = Nothing("the log cuts itself by size, and needs no snapshot files");
const GO: Effect = Nothing("this is no Go program");
const KEEPALIVE: Effect = Nothing("idle connections are pinged every 20 s");
const PEERS: Effect = Nothing("members speak a protocol of their own");
const TRACING: Effect =
    Nothing("there is no distributed tracing yet, which enable-distributed-tracing says");
const TRUE: Effect = Only(&["true"]);
const FALSE: Effect = Only(&["false"]);

/// All flags but those of TLS, in the order of `--help`.
const FLAGS: &[Flag] = &[
    flag("name", "default", "Human-readable name of this member."),
    flag("data-dir", "${name}.etcd", "Path of the data directory."),
    flag(
        "config-file",
        "",
        "A YAML file with these settings; other flags and variables are ignored then.",
    ),
    flag(
        "listen-client-urls",
        "http://localhost:2379",
        "Comma-separated URLs to listen on for clients.",
    ),
    flag(
        "listen-client-http-urls",
        "",
        "Comma-separated URLs that serve plain HTTP alone; --listen-client-urls serve gRPC alone then.",
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
        "listen-metrics-urls",
        "",
        "Comma-separated URLs that serve /metrics and the health pages alone.",
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
        "auto-compaction-mode",
        "periodic",
        "What --auto-compaction-retention means: 'periodic' a duration, 'revision' a number of revisions.",
    ),
    flag(
        "auto-compaction-retention",
        "0",
        "How much history the leader keeps: hours, a duration such as 30m, or revisions; 0 keeps all.",
    ),
    flag(
        "max-request-bytes",
        "1572864",
        "Largest request of a client, at most 3670016.",
    ),
    flag(
        "max-txn-ops",
        "128",
        "Operations in each list of a transaction.",
    ),
    flag(
        "max-concurrent-streams",
        "4294967295",
        "Calls and streams at once on one client connection; more than 4096 are never taken.",
    ),
    flag(
        "watch-progress-notify-interval",
        "10m0s",
        "How often watchers that asked for it are told that nothing has changed.",
    ),
    Flag {
        is_bool: true,
        ..flag(
            "enable-grpc-gateway",
            "true",
            "Calls can be made with JSON below /v3/ of the client port.",
        )
    },
    flag(
        "cors",
        "*",
        "Comma-separated origins, such as http://host:port, whose pages may read answers to plain HTTP.",
    ),
    flag(
        "host-whitelist",
        "*",
        "Comma-separated hosts that requests over plain HTTP without TLS may name.",
    ),
    flag(
        "snapshot-catchup-entries",
        "300000",
        "Log entries kept for members that are behind; one that needs older ones gets a snapshot.",
    ),
    flag(
        "feature-gates",
        "",
        "etcd's feature gates as NAME=true,NAME=false. InitialCorruptCheck and CompactHashCheck do as in etcd; what the others do \
         is done always, or there is nothing to do it to.",
    ),
    flag(
        "auth-token",
        "simple",
        "How users show who they are: 'simple', or \
         'jwt,pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=DURATION'.",
    ),
    flag(
        "auth-token-ttl",
        "300",
        "Seconds after which a simple token that is not used means nobody.",
    ),
    flag(
        "bcrypt-cost",
        "10",
        "Cost of hashing a password with bcrypt, from 4 to 31.",
    ),
    flag(
        "corrupt-check-time",
        "0s",
        "More than 0 raises the alarm CORRUPT for a member that differs; members compare all the time, and it stops in any case.",
    ),
    flag(
        "compact-hash-check-time",
        "1m0s",
        "With the feature gate CompactHashCheck the alarm CORRUPT is raised likewise; members compare all the time.",
    ),
    switch(
        "force-new-cluster",
        "Keep the data and drop all other members: for the survivor of a cluster that lost its quorum for good. Once.",
    ),
    flag(
        "warning-unary-request-duration",
        "300ms",
        "A call that takes longer is logged, with where its time went.",
    ),
    flag(
        "warning-apply-duration",
        "100ms",
        "A read that takes longer, or a change that takes longer to be applied, is logged, with where its time went.",
    ),
    flag(
        "metrics",
        "basic",
        "'basic', or 'extensive' with a histogram of the time that calls take, by method.",
    ),
    flag("log-level", "info", "One of debug, info, warn, error."),
    flag("log-format", "json", "'json', or 'console' for people."),
    flag(
        "log-outputs",
        "default",
        "Comma-separated places for log lines: stderr (the default), stdout, paths of files; /dev/null is none.",
    ),
    switch(
        "enable-log-rotation",
        "Set the log file aside when it is full; --log-outputs must name one file.",
    ),
    flag(
        "log-rotation-config-json",
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "When it is full (megabytes), for how many days and how many are kept (0 is all), whether they are compressed.",
    ),
    flag(
        "coord-owner",
        "",
        "Whose data this must be, such as NAMESPACE/CLUSTER/MEMBER: stamped into a new data directory, any other is \
         refused. With it an empty member that waits forms a cluster alone when POST /coord/bootstrap says so.",
    ),
    flag(
        "coord-audit-log",
        "",
        "A file, 'stdout' or 'stderr' that gets a line of JSON for each call: the user, the address, the keys and the outcome. \
         A file is made with mode 0600, and made anew when it was moved away.",
    ),
    flag(
        "coord-audit-kinds",
        "read,write,watch,lease,lock,auth,cluster,maintenance",
        "Comma-separated kinds of operations that the audit log records.",
    ),
    flag(
        "coord-audit-prefixes",
        "",
        "Comma-separated prefixes: of operations on keys, the audit log records those that may meet one; all if it is empty.",
    ),
    switch("version", "Print the version and exit."),
    other_switch(
        "strict-reconfig-check",
        Nothing("changes of membership are always checked"),
    ),
    other_switch("pre-vote", TRUE),
    other("max-learners", Only(&["1"])),
    other("logger", Only(&["zap"])),
    other_switch("enable-v2", FALSE),
    other_switch("socket-reuse-port", FALSE),
    other_switch("socket-reuse-address", FALSE),
    other_switch("enable-distributed-tracing", FALSE),
    other("metrics", Only(&["basic"])),
    other("proxy", Only(&["off"])),
    other("wal-dir", Missing),
    other("discovery-token", Missing),
    other("discovery-endpoints", Missing),
    other("discovery-srv", Missing),
    other("discovery-srv-name", Missing),
    other("discovery", Missing),
    other("discovery-cacert", Missing),
    other("discovery-cert", Missing),
    other("discovery-dial-timeout", Missing),
    other("discovery-fallback", Missing),
    other_switch("discovery-insecure-skip-tls-verify", Missing),
    other_switch("discovery-insecure-transport", Missing),
    other("discovery-keepalive-time", Missing),
    other("discovery-keepalive-timeout", Missing),
    other("discovery-key", Missing),
    other("discovery-password", Missing),
    other("discovery-proxy", Missing),
    other("discovery-request-timeout", Missing),
    other("discovery-user", Missing),
    other("distributed-tracing-address", TRACING),
    other("distributed-tracing-instance-id", TRACING),
    other("distributed-tracing-sampling-rate", TRACING),
    other("distributed-tracing-service-name", TRACING),
    other("snapshot-count", WAL),
    other("max-snapshots", WAL),
    other("max-wals", WAL),
    other_switch(
        "unsafe-no-fsync",
        Nothing("what is acknowledged is on disk, always"),
    ),
    other("backend-batch-interval", BBOLT),
    other("backend-batch-limit", BBOLT),
    other("backend-bbolt-freelist-type", BBOLT),
    other("bootstrap-defrag-threshold-megabytes", BBOLT),
    other("compaction-batch-limit", BBOLT),
    other("compaction-sleep-interval", BBOLT),
    other_switch("memory-mlock", BBOLT),
    other_switch("enable-pprof", GO),
    other("grpc-keepalive-min-time", KEEPALIVE),
    other("grpc-keepalive-interval", KEEPALIVE),
    other("grpc-keepalive-timeout", KEEPALIVE),
    other("raft-read-timeout", PEERS),
    other("raft-write-timeout", PEERS),
    other("downgrade-check-time", PEERS),
    other_switch(
        "initial-election-tick-advance",
        Nothing("a member that starts waits for no clock of ticks"),
    ),
    other("v2-deprecation", Nothing("there is no v2 store")),
];

/// All flags.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().chain(super::tls::FLAGS)
}

/// The flag of this name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}
