//! Answers in few words, for tests to compare.

use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::event::EventType;
use coord_proto::etcd::mvccpb::{Event, KeyValue};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The keys.
#[must_use]
pub fn keys(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(|kv| text(&kv.key)).collect()
}

/// The values.
#[must_use]
pub fn values(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(|kv| text(&kv.value)).collect()
}

/// The revision in a header. Panics without one: every answer has one.
#[must_use]
pub fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("every answer has a header").revision
}

/// The revision of an event. Panics without a key: every event has one.
#[must_use]
pub fn revision_of(event: &Event) -> i64 {
    let kv = event.kv.as_ref().expect("every event has a key");
    kv.mod_revision
}

/// `key=value@revision` of a put, `-key@revision` of a delete.
#[must_use]
pub fn shown(events: &[Event]) -> Vec<String> {
    let show = |event: &Event| {
        let kv = event.kv.as_ref().expect("every event has a key");
        let (key, revision) = (text(&kv.key), kv.mod_revision);
        match event.r#type() {
            EventType::Put => format!("{key}={}@{revision}", text(&kv.value)),
            EventType::Delete => format!("-{key}@{revision}"),
        }
    };
    events.iter().map(show).collect()
}
