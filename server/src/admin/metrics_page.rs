//! `/metrics`: the rooms' counters, and gauges that are read now.

use std::fmt::{Display, Write};

use http::StatusCode;
use prometheus::{Encoder, TextEncoder};

use super::process::Process;
use super::{text, with_type};
use crate::cli::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::coordinator::Coordinator;
use crate::metrics::metrics;

pub(super) fn page(coordinator: &Coordinator) -> crate::http::Page {
    let mut counted = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&metrics().registry.gather(), &mut counted) {
        return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
    }
    let mut page = Page(String::from_utf8_lossy(&counted).into_owned());
    server(&mut page, coordinator);
    store(&mut page, coordinator);
    process(&mut page);
    with_type(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        page.0,
    )
}

fn server(page: &mut Page, coordinator: &Coordinator) {
    let now = coordinator.status();
    page.gauge(
        "etcd_server_has_leader",
        "Whether or not a leader exists.",
        u8::from(now.raft.leader.is_some()),
    );
    page.gauge(
        "etcd_server_is_leader",
        "Whether or not this member is a leader.",
        u8::from(now.raft.is_leader),
    );
    page.gauge(
        "etcd_server_is_learner",
        "Whether or not this member is a learner.",
        u8::from(now.raft.is_learner),
    );
    page.gauge(
        "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed.",
        now.raft.committed_index,
    );
    page.gauge(
        "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied.",
        now.raft.applied_index,
    );
    page.gauge(
        "etcd_server_quota_backend_bytes",
        "Current backend storage quota size in bytes.",
        now.quota_bytes.unwrap_or(0),
    );
    page.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        now.disk_bytes,
    );
    page.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.",
        now.logical_bytes,
    );
    page.gauge(
        "coord_feature_level",
        "The feature level of the cluster: every member can apply what it allows.",
        now.feature_level,
    );
    page.gauge(
        "coord_feature_level_max",
        "The highest feature level that this member can apply.",
        now.feature_level_max,
    );
    let id = coordinator.identity().member;
    page.labelled(
        "etcd_server_id",
        "Server or member ID in hexadecimal format.",
        "server_id",
        id,
    );
    page.labelled(
        "etcd_server_version",
        "Which version is running.",
        "server_version",
        ETCD_VERSION,
    );
    page.labelled(
        "etcd_cluster_version",
        "Which version is running.",
        "cluster_version",
        ETCD_CLUSTER_VERSION,
    );
}

fn store(page: &mut Page, coordinator: &Coordinator) {
    let counts = coordinator.hub().counts();
    page.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Total number of watch streams.",
        counts.outlets,
    );
    page.gauge(
        "etcd_debugging_mvcc_watcher_total",
        "Total number of watchers.",
        counts.watchers,
    );
    page.gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Total number of unsynced slow watchers.",
        counts.lagging,
    );
    page.gauge(
        "etcd_debugging_mvcc_pending_events_total",
        "Total number of pending events to be sent.",
        counts.queued,
    );
    page.gauge(
        "etcd_debugging_mvcc_current_revision",
        "The current revision of store.",
        coordinator.revision(),
    );
}

fn process(page: &mut Page) {
    let now = Process::now();
    page.typed(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        "counter",
        now.cpu_seconds,
    );
    page.gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        now.resident_bytes,
    );
    page.gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        now.open_files,
    );
    page.gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        now.open_files_max,
    );
    page.gauge(
        "os_fd_used",
        "The number of used file descriptors.",
        now.open_files,
    );
    page.gauge(
        "os_fd_limit",
        "The file descriptor limit.",
        now.open_files_max,
    );
}

/// Prometheus's text format.
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.typed(name, help, "gauge", value);
    }

    fn typed(&mut self, name: &str, help: &str, kind: &str, value: impl Display) {
        self.line(format_args!(
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        ));
    }

    /// A gauge that is always 1 and says something in its label.
    fn labelled(&mut self, name: &str, help: &str, label: &str, value: impl Display) {
        self.line(format_args!(
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{label}=\"{value}\"}} 1\n"
        ));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(line)
            .expect("writing to a string cannot fail");
    }
}
