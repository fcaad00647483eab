//! Why a pod is not made, not started, or has no disk, where Kubernetes says so only in events: a quota, a policy, a
//! webhook, a missing PriorityClass, a disk that another node still holds.
//!
//! Asked only for members that have not run for a while: in a healthy cluster it costs nothing.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Error};

use super::{Memory, Observed};
use crate::model::{Ordinal, names};

/// Seconds without a running pod before its events are read: a start takes less.
const AFTER_SECONDS: i64 = 10;

/// The object that an event is about.
struct About {
    n: Ordinal,
    kind: &'static str,
    name: String,
    uid: String,
}

/// Completes `observed` with what events say of members that don't run. `now` is in Unix seconds.
pub(super) async fn quote(
    client: &Client,
    namespace: &str,
    cluster: &str,
    memory: &mut Memory,
    observed: &mut Observed,
    now: i64,
) -> Result<(), Error> {
    let runs = |n: &Ordinal| observed.pods.get(n).is_some_and(|pod| pod.running);
    let numbers = observed.sets.keys().chain(observed.volumes.keys());
    let idle: BTreeSet<Ordinal> = numbers.filter(|n| !runs(n)).copied().collect();
    let idle = memory.idle_for(&idle, AFTER_SECONDS, now);
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let subjects: Vec<About> = idle
        .into_iter()
        .flat_map(|n| subjects(observed, cluster, n))
        .collect();
    for about in subjects {
        let selector = format!(
            "involvedObject.kind={},involvedObject.name={},type=Warning",
            about.kind, about.name
        );
        let events = match api.list(&ListParams::default().fields(&selector)).await {
            Ok(events) => events.items,
            // An operator that may not read events tells less.
            Err(Error::Api(status)) if status.is_forbidden() => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(said) = newest(&events, &about.uid) else {
            continue;
        };
        match about.kind {
            "Pod" => {
                if let Some(pod) = observed.pods.get_mut(&about.n) {
                    pod.trouble = Some(said);
                }
            }
            "StatefulSet" => {
                if let Some(set) = observed.sets.get_mut(&about.n) {
                    set.trouble = Some(said);
                }
            }
            _ => {
                if let Some(volume) = observed.volumes.get_mut(&about.n) {
                    volume.trouble = Some(said);
                }
            }
        }
    }
    Ok(())
}

/// Objects whose events may say why member `n` does not run: its pod, or if it has none its StatefulSet, and a disk
/// that is not there.
fn subjects(observed: &Observed, cluster: &str, n: Ordinal) -> Vec<About> {
    let mut subjects = Vec::new();
    match (observed.pods.get(&n), observed.sets.get(&n)) {
        (Some(pod), _) if pod.trouble.is_none() => subjects.push(About {
            n,
            kind: "Pod",
            name: names::pod(cluster, n),
            uid: pod.uid.clone(),
        }),
        (None, Some(set)) => subjects.push(About {
            n,
            kind: "StatefulSet",
            name: names::member(cluster, n),
            uid: set.uid.clone(),
        }),
        (Some(_), _) | (None, None) => {}
    }
    if let Some(volume) = observed.volumes.get(&n).filter(|v| v.volume_name.is_none()) {
        subjects.push(About {
            n,
            kind: "PersistentVolumeClaim",
            name: names::volume(cluster, n),
            uid: volume.uid.clone(),
        });
    }
    subjects
}

fn newest(events: &[Event], uid: &str) -> Option<String> {
    let ours = events
        .iter()
        .filter(|event| event.involved_object.uid.as_deref() == Some(uid));
    let newest = ours.max_by_key(|event| time(event))?;
    let reason = newest.reason.as_deref().unwrap_or("Warning");
    let message = newest.message.as_deref().unwrap_or_default();
    // "create Pod demo-1-0 in StatefulSet demo-1 failed error: " says nothing new.
    let message = message
        .split_once(" failed error: ")
        .map_or(message, |(_, why)| why);
    let message: String = message.chars().take(400).collect();
    Some(format!("{reason}: {}", message.trim()))
}

fn time(event: &Event) -> Option<Timestamp> {
    let last = event
        .series
        .as_ref()
        .and_then(|s| s.last_observed_time.as_ref().map(|t| t.0));
    last.or(event.last_timestamp.as_ref().map(|t| t.0))
        .or(event.event_time.as_ref().map(|t| t.0))
        .or(event.metadata.creation_timestamp.as_ref().map(|t| t.0))
}

#[cfg(test)]
mod tests {
    use super::newest;
    use k8s_openapi::api::core::v1::Event;
    use serde_json::json;

    fn event(uid: &str, minute: u32, message: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {},
            "involvedObject": { "uid": uid },
            "reason": "FailedCreate",
            "lastTimestamp": format!("2026-11-30T10:{minute:02}:00Z"),
            "message": message,
        }))
        .expect("an event")
    }

    #[test]
    fn the_newest_word_about_the_object_itself_counts() {
        let events = [
            event(
                "new",
                2,
                "create Pod demo-1-0 in StatefulSet demo-1 failed error: exceeded quota: q",
            ),
            event("new", 1, "no PriorityClass with name nope was found"),
            event("old", 3, "of an object that is gone"),
        ];
        let said = newest(&events, "new");
        assert_eq!(said.as_deref(), Some("FailedCreate: exceeded quota: q"));
        assert_eq!(newest(&events, "none"), None);
    }
}
