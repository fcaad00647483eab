//! Printed scripts: requests and changes in, responses out. `UPDATE=1` rewrites what is expected.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb;
use prost::Message;

use super::said::Said;
use super::session::Session;
use super::wire::Writer;
use crate::command::{Event, EventKind, KeyValue, Keys, Revision, Unavailable};
use crate::watch::{Changes, Hub, Part, Past};

/// Revisions in one piece of history, so that catching up takes several.
const PIECE: u64 = 2;
/// Changes in one piece of a revision; one that has more is large.
const PART: usize = 3;

struct Script {
    hub: Arc<Hub>,
    session: Session<Revision>,
    writer: Writer,
    /// A response that has begun, and how long it will be.
    begun: Vec<u8>,
    whole: usize,
    history: Vec<Event>,
    current: BTreeMap<Bytes, KeyValue>,
    revision: u64,
    floor: u64,
    is_held: bool,
}

impl Script {
    fn new() -> Self {
        let hub = Hub::new(Revision(1));
        let session = Session::new(&hub, 0xc, 0xa);
        Self {
            hub,
            session,
            writer: Writer::default(),
            begun: Vec::new(),
            whole: 0,
            history: Vec::new(),
            current: BTreeMap::new(),
            revision: 1,
            floor: 0,
            is_held: false,
        }
    }

    fn run(&mut self, line: &str) -> String {
        let mut said = Vec::new();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "create" => said.extend(self.request(create(rest))),
            "cancel" => {
                let watch_id = rest.parse().unwrap();
                let cancel = pb::WatchCancelRequest { watch_id };
                said.extend(self.request(pb::watch_request::RequestUnion::CancelRequest(cancel)));
            }
            "progress" => {
                let ask =
                    pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                said.extend(self.request(ask));
            }
            "put" | "delete" | "txn" => {
                let events = self.change(line.strip_prefix("txn ").unwrap_or(line));
                self.hub.publish(Revision(self.revision), events);
            }
            // Too large for anybody to hold its events.
            "large" => {
                let of = Keys::Range {
                    start: Bytes::from_static(b"\0"),
                    end: None,
                };
                self.change(rest);
                self.hub.publish_large(Revision(self.revision), &of);
            }
            "turn" => said.extend(
                self.session
                    .turn(7, &self.past())
                    .unwrap()
                    .unwrap_or_default(),
            ),
            "install" => {
                self.change(rest);
                self.hub.reset(Revision(self.revision));
            }
            "compact" => self.floor = rest.parse().unwrap(),
            "notice" => self.session.notice(),
            "hold" => self.is_held = true,
            "go" => self.is_held = false,
            other => panic!("{other}?"),
        }
        if !self.is_held {
            self.turns(&mut said);
        }
        self.print(&said)
    }

    /// Prints the messages, and checks that their bytes are responses as whole as they say.
    fn print(&mut self, said: &[Said]) -> String {
        let mut text = String::new();
        for said in said {
            let bytes = self.writer.write(std::slice::from_ref(said)).unwrap();
            match said {
                Said::Response(response) => {
                    assert_eq!(pb::WatchResponse::decode(&bytes[5..]).unwrap(), *response);
                    text += &print(response);
                }
                Said::Begins {
                    response,
                    bytes: whole,
                } => {
                    assert_eq!(
                        u64::from(u32::from_be_bytes(bytes[1..5].try_into().unwrap())),
                        *whole
                    );
                    text += &print(response);
                    self.begun = bytes[5..].to_vec();
                    self.whole = usize::try_from(*whole).unwrap();
                }
                Said::GoesOn(more) => {
                    text.push_str("    more of it\n");
                    text += &print_events(more);
                    self.begun.extend_from_slice(&bytes);
                }
            }
            if self.whole > 0 && self.begun.len() == self.whole {
                let response = pb::WatchResponse::decode(self.begun.as_slice()).unwrap();
                writeln!(text, "    that was all: {} events", response.events.len()).unwrap();
                self.whole = 0;
            }
        }
        text
    }

    fn request(&mut self, union: pb::watch_request::RequestUnion) -> Vec<Said> {
        let request = pb::WatchRequest {
            request_union: Some(union),
        };
        let said = self.session.request(request, 7);
        said.into_iter().map(Said::Response).collect()
    }

    fn past(&self) -> History {
        History {
            floor: self.floor,
            events: self.history.clone(),
        }
    }

    fn turns(&mut self, said: &mut Vec<Said>) {
        let past = self.past();
        while let Some(turn) = self.session.turn(7, &past).unwrap() {
            said.extend(turn);
        }
    }

    /// `put k=v; delete k; put k=*1000`, in one revision.
    fn change(&mut self, ops: &str) -> Vec<Event> {
        self.revision += 1;
        let revision = Revision(self.revision);
        let events = ops.split("; ").map(|op| {
            let (verb, rest) = op.split_once(' ').unwrap();
            let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
            let key = Bytes::copy_from_slice(key.as_bytes());
            let value = match value.strip_prefix('*') {
                Some(bytes) => vec![b'x'; bytes.parse().unwrap()].into(),
                None => Bytes::copy_from_slice(value.as_bytes()),
            };
            let prev = self.current.remove(&key);
            let mut kv = KeyValue {
                key: key.clone(),
                create_revision: Revision(0),
                mod_revision: revision,
                version: 0,
                value: Bytes::new(),
                lease: None,
            };
            if verb == "delete" {
                return Event {
                    kind: EventKind::Delete,
                    kv,
                    prev,
                };
            }
            kv.create_revision = prev.as_ref().map_or(revision, |prev| prev.create_revision);
            kv.version = prev.as_ref().map_or(1, |prev| prev.version + 1);
            kv.value = value;
            self.current.insert(key, kv.clone());
            Event {
                kind: EventKind::Put,
                kv,
                prev,
            }
        });
        let events: Vec<Event> = events.collect();
        self.history.extend(events.iter().cloned());
        events
    }
}

/// The changes, in a list.
struct History {
    floor: u64,
    events: Vec<Event>,
}

impl Past for History {
    type Large = Revision;
    type Error = Unavailable;

    fn changes(&self, from: Revision, upto: Revision) -> Result<Changes<Revision>, Unavailable> {
        if from.0 < self.floor {
            let oldest = Revision(self.floor);
            return Ok(Changes::Compacted { oldest });
        }
        let of = |revision| {
            let events = self.events.iter();
            events.filter(move |event| event.kv.mod_revision.0 == revision)
        };
        let mut events = Vec::new();
        for next in from.0..upto.0.min(from.0 + PIECE) {
            if of(next).count() > PART {
                if events.is_empty() {
                    let revision = Revision(next);
                    return Ok(Changes::Large {
                        revision,
                        large: revision,
                    });
                }
                let next = Revision(next);
                return Ok(Changes::Kept { events, next });
            }
            events.extend(of(next).cloned());
        }
        let next = Revision(upto.0.min(from.0 + PIECE));
        Ok(Changes::Kept { events, next })
    }

    fn part(
        &self,
        large: &Revision,
        places: std::ops::Range<u32>,
        prevs: bool,
    ) -> Result<Part, Unavailable> {
        let events = self.events.iter();
        let of_it = events.filter(|event| event.kv.mod_revision == *large);
        let mut rest = (0..).zip(of_it).filter(|(at, _)| places.contains(at));
        let changes = rest.by_ref().take(PART).map(|(at, event)| {
            let mut event = event.clone();
            event.prev = event.prev.filter(|_| prevs);
            (at, event)
        });
        Ok(Part {
            changes: changes.collect(),
            next: rest.next().map(|(at, _)| at),
        })
    }
}

/// `key=a end=b start=3 id=5 prev noput nodelete notify fragment`; `\0` is a zero byte.
fn create(words: &str) -> pb::watch_request::RequestUnion {
    let mut request = pb::WatchCreateRequest::default();
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let bytes = Bytes::from(value.replace("\\0", "\0").into_bytes());
        match name {
            "key" => request.key = bytes,
            "end" => request.range_end = bytes,
            "start" => request.start_revision = value.parse().unwrap(),
            "id" => request.watch_id = value.parse().unwrap(),
            "prev" => request.prev_kv = true,
            "notify" => request.progress_notify = true,
            "fragment" => request.fragment = true,
            "noput" => request
                .filters
                .push(pb::watch_create_request::FilterType::Noput.into()),
            "nodelete" => request
                .filters
                .push(pb::watch_create_request::FilterType::Nodelete.into()),
            other => panic!("{other}?"),
        }
    }
    pb::watch_request::RequestUnion::CreateRequest(request)
}

fn print(response: &pb::WatchResponse) -> String {
    let header = response.header.as_ref().unwrap();
    assert_eq!(
        (header.cluster_id, header.member_id, header.raft_term),
        (0xc, 0xa, 7)
    );
    let mut text = format!("    watch {} at {}", response.watch_id, header.revision);
    for (is_set, word) in [
        (response.created, " created"),
        (response.canceled, " canceled"),
        (response.fragment, " fragment"),
    ] {
        if is_set {
            text.push_str(word);
        }
    }
    if response.compact_revision != 0 {
        write!(text, " compacted {}", response.compact_revision).unwrap();
    }
    if !response.cancel_reason.is_empty() {
        write!(text, " \"{}\"", response.cancel_reason).unwrap();
    }
    text.push('\n');
    text + &print_events(response)
}

fn print_events(response: &pb::WatchResponse) -> String {
    let mut text = String::new();
    for event in &response.events {
        let kind = if event.r#type() == mvccpb::event::EventType::Put {
            "put"
        } else {
            "delete"
        };
        write!(text, "        {kind} {}", pair(event.kv.as_ref().unwrap())).unwrap();
        if let Some(prev) = &event.prev_kv {
            write!(text, ", before: {}", pair(prev)).unwrap();
        }
        text.push('\n');
    }
    text
}

fn pair(kv: &mvccpb::KeyValue) -> String {
    let value = if kv.value.len() > 20 {
        format!("({} bytes)", kv.value.len())
    } else {
        String::from_utf8_lossy(&kv.value).into_owned()
    };
    let key = String::from_utf8_lossy(&kv.key);
    format!(
        "{key}={value} created {} changed {} version {}",
        kv.create_revision, kv.mod_revision, kv.version
    )
}

#[test]
fn watch_streams_say_what_the_scripts_say() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/watch");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for path in scripts {
        let expected = std::fs::read_to_string(&path).unwrap();
        let mut script = Script::new();
        let mut printed = String::new();
        for line in expected.lines().filter(|line| !line.starts_with("    ")) {
            printed.push_str(line);
            printed.push('\n');
            if line.is_empty() {
                script = Script::new();
            } else if !line.starts_with('#') {
                printed.push_str(&script.run(line));
            }
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &printed).unwrap();
            continue;
        }
        assert_eq!(
            printed,
            expected,
            "{}: rewrite with UPDATE=1 if this is meant",
            path.display()
        );
    }
}
