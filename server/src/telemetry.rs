//! Log lines: one JSON object each, on standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging at `level`. openraft speaks of every message at debug and of every attempt to reach a lost peer at
/// warn; `raft` itself says the part of that which matters. h2 and hyper warn of what a client sends, as often as it
/// sends it.
///
/// Calling it twice in one process keeps the first.
pub fn start(level: &str) {
    let filter = EnvFilter::new(format!(
        "{level},openraft=error,fjall=warn,lsm_tree=warn,h2=error,hyper=error"
    ));
    let lines = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Fails only if logging has been started before.
    let _ = lines.try_init();
}
