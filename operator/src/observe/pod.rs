//! Reads a pod: whether its server runs and is ready, and why not, in the kubelet's, the scheduler's or its
//! own words.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use kube::ResourceExt;

use super::PodSeen;
use super::text::annotation;
use crate::model::{labels, template::SERVER};

/// `pod`, as the planner sees it.
pub(super) fn pod_seen(pod: &Pod) -> PodSeen {
    let status = pod.status.as_ref();
    let container = status.and_then(server_status);
    let state = container.and_then(|c| c.state.as_ref());
    PodSeen {
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        ip: status.and_then(|s| s.pod_ip.clone()),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        container: container.and_then(|c| c.container_id.clone()),
        running: state.is_some_and(|s| s.running.is_some()),
        // Not the container's own word: of a node that is lost that stays as it was, and only this turns.
        ready: is_ready(pod),
        deleting_since: pod
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|t| t.0.as_second()),
        stuck: false,
        finalizer: pod.finalizers().first().cloned(),
        template_hash: annotation(pod.annotations(), labels::TEMPLATE_HASH)
            .unwrap_or_default()
            .to_owned(),
        revision: pod.labels().get("controller-revision-hash").cloned(),
        labelled_voter: pod.labels().get(labels::ROLE).map(String::as_str) == Some(labels::VOTER),
        stripped: false,
        orphan: !pod
            .owner_references()
            .iter()
            .any(|o| o.controller == Some(true)),
        trouble: trouble(pod),
    }
}

/// The server's own container. Kubelets sort containers by name, and a mesh may have added one before it.
fn server_status(status: &PodStatus) -> Option<&ContainerStatus> {
    let containers = status.container_statuses.as_ref()?;
    containers.iter().find(|c| c.name == SERVER)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Why a pod does not run: the kubelet's word, else the scheduler's.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let container = server_status(status);
    let state = container.and_then(|c| c.state.as_ref());
    let last = container
        .and_then(|c| c.last_state.as_ref()?.terminated.as_ref())
        .map(ended);
    if let Some(waiting) = state.and_then(|s| s.waiting.as_ref()) {
        let reason = waiting.reason.clone().unwrap_or_default();
        // Every container waits in these two states for a moment; they are no trouble.
        if !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing") {
            return Some(match (last, &waiting.message) {
                // The kubelet's own text counts seconds, and each number would be a write of the status.
                (Some(last), _) => format!("{reason}: {last}"),
                (None, Some(message)) => format!("{reason}: {message}"),
                (None, None) => reason,
            });
        }
    }
    if let Some(terminated) = state.and_then(|s| s.terminated.as_ref()) {
        return Some(ended(terminated));
    }
    let scheduled = status
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let message = scheduled.message.clone().unwrap_or_default();
    Some(format!(
        "{}: {message}",
        scheduled.reason.clone().unwrap_or_default()
    ))
}

/// How a server ended, and what it said last.
fn ended(terminated: &ContainerStateTerminated) -> String {
    if terminated.reason.as_deref() == Some("OOMKilled") {
        return "its server was killed because it used more memory than spec.resources.limits allow (OOMKilled)"
            .to_owned();
    }
    let code = format!("its server ended with exit code {}", terminated.exit_code);
    match terminated.message.as_deref().and_then(last_words) {
        Some(words) => format!("{code}: {words}"),
        None => code,
    }
}

/// The last line of a server's log, or the message in it: with the kubelet's FallbackToLogsOnError that is how a
/// container that failed tells why.
fn last_words(log: &str) -> Option<String> {
    let line = log
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    let message = serde_json::from_str::<serde_json::Value>(line)
        .ok()
        .and_then(|json| {
            // etcd's word, and that of servers that were built before it was ours.
            let words = json.get("msg").or_else(|| json.get("message"))?;
            Some(words.as_str()?.to_owned())
        });
    Some(
        message
            .unwrap_or_else(|| line.to_owned())
            .chars()
            .take(500)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A mesh's container stands before the server's, as kubelets sort them.
    fn pod(mesh: serde_json::Value, server: serde_json::Value, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "demo-0-0" },
            "status": {
                "conditions": [{ "type": "Ready", "status": ready }],
                "containerStatuses": [
                    { "name": "istio-proxy", "state": mesh, "ready": true, "image": "", "imageID": "", "restartCount": 0 },
                    {
                        "name": "server", "state": server, "ready": true, "image": "", "imageID": "",
                        "restartCount": 0, "containerID": "c1",
                    },
                ],
            },
        }))
        .expect("a pod")
    }

    #[test]
    fn a_sidecar_does_not_speak_for_the_server() {
        let runs = || json!({ "running": {} });
        let fails = || json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        let seen = pod_seen(&pod(runs(), fails(), "False"));
        assert!(!seen.running);
        assert_eq!(seen.trouble.as_deref(), Some("CrashLoopBackOff"));
        let seen = pod_seen(&pod(fails(), runs(), "True"));
        assert!(seen.running && seen.ready, "the server serves");
        assert_eq!(seen.trouble, None);
        assert_eq!(seen.container.as_deref(), Some("c1"));
    }
}
