//! Writes protobuf as JSON, piece by piece, straight from its bytes.
//!
//! An answer may be as large as memory allows, and the thread that writes it carries heartbeats, too: so nothing is built
//! of it, and as much is written at a time as fits into a piece. A message need not be there whole, only each of its fields,
//! which is how a change of a million keys is told to a watcher. It is written as grpc-gateway does it for etcd: names as
//! in the definitions, numbers of 64 bits as strings, bytes in base64, nothing that has its default.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use tonic::Status;

/// Longest varint.
const VARINT_BYTES_MAX: usize = 10;
/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// One message on its way to JSON.
#[derive(Debug)]
pub(super) struct Writer {
    /// From the message down to what is being written.
    levels: Vec<Level>,
    /// Bytes of the message that have not come yet.
    missing: usize,
}

/// A message inside another.
#[derive(Debug)]
struct Level {
    kind: MessageDescriptor,
    rest: Bytes,
    /// The list that is being written, by its field's number.
    list: Option<u32>,
    is_empty: bool,
}

/// Why a writer stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The piece is full.
    Full,
    /// More of the message must come.
    Starved,
    /// The message is written.
    Done,
}

/// The next field as it stands in the bytes.
enum Next {
    Field(u32, Value),
    /// It is not all there.
    Cut,
}

enum Value {
    Number(u64),
    Bytes(Bytes),
}

impl Writer {
    /// Of a message of `bytes`, none of which are here yet.
    pub(super) fn new(kind: MessageDescriptor, bytes: usize) -> Self {
        Self {
            levels: vec![Level::new(kind, Bytes::new())],
            missing: bytes,
        }
    }

    /// Takes what belongs to the message out of `data`.
    pub(super) fn feed(&mut self, data: &mut Bytes) {
        let more = data.split_to(data.len().min(self.missing));
        self.missing -= more.len();
        if let Some(level) = self.levels.first_mut().filter(|_| !more.is_empty()) {
            level.rest = match level.rest.is_empty() {
                true => more,
                false => [&level.rest[..], &more].concat().into(),
            };
        }
    }

    /// Bytes of the message that came and are not written.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.levels.first().map_or(0, |level| level.rest.len())
    }

    /// Writes until `out` has `bytes_max`, give or take a field.
    ///
    /// Errors: it is no message of its kind.
    pub(super) fn write(
        &mut self,
        out: &mut BytesMut,
        bytes_max: usize,
    ) -> Result<Stopped, Status> {
        while let Some(depth) = self.levels.len().checked_sub(1) {
            if out.len() >= bytes_max {
                return Ok(Stopped::Full);
            }
            let level = &mut self.levels[depth];
            let is_whole = depth > 0 || self.missing == 0;
            if level.rest.is_empty() && is_whole {
                level.end(out);
                self.levels.pop();
                continue;
            }
            let (number, value) = match next(&mut level.rest)? {
                Next::Field(number, value) => (number, value),
                Next::Cut if is_whole => return Err(broken()),
                Next::Cut => return Ok(Stopped::Starved),
            };
            let Some(field) = level.kind.get_field(number) else {
                continue;
            };
            if let Some(inner) = level.field(&field, value, out)? {
                self.levels.push(inner);
            }
        }
        Ok(Stopped::Done)
    }
}

impl Level {
    fn new(kind: MessageDescriptor, rest: Bytes) -> Self {
        Self {
            kind,
            rest,
            list: None,
            is_empty: true,
        }
    }

    /// Writes a field, or as much of it as comes before the message that it is.
    fn field(
        &mut self,
        field: &FieldDescriptor,
        value: Value,
        out: &mut BytesMut,
    ) -> Result<Option<Self>, Status> {
        let is_more = field.is_list() && self.list == Some(field.number());
        if !is_more {
            self.name(field, out);
        }
        let mut separator = if is_more { "," } else { "" };
        let kind = field.kind();
        match (&kind, value) {
            (Kind::Message(kind), Value::Bytes(bytes)) => {
                out.extend_from_slice(separator.as_bytes());
                return Ok(Some(Self::new(kind.clone(), bytes)));
            }
            (Kind::String | Kind::Bytes, Value::Bytes(bytes)) => {
                out.extend_from_slice(separator.as_bytes());
                text(&kind, &bytes, out)?;
            }
            (_, Value::Number(value)) => {
                out.extend_from_slice(separator.as_bytes());
                number(&kind, value, out)?;
            }
            // Numbers of a list stand together.
            (_, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let value = varint(&mut packed).ok_or_else(broken)?;
                    out.extend_from_slice(separator.as_bytes());
                    number(&kind, value, out)?;
                    separator = ",";
                }
            }
        }
        Ok(None)
    }

    /// Writes the text before a field's value, or before the first of a list.
    fn name(&mut self, field: &FieldDescriptor, out: &mut BytesMut) {
        if self.list.take().is_some() {
            out.extend_from_slice(b"]");
        }
        out.extend_from_slice(if self.is_empty { b"{\"" } else { b",\"" });
        out.extend_from_slice(field.name().as_bytes());
        out.extend_from_slice(b"\":");
        self.is_empty = false;
        if field.is_list() {
            self.list = Some(field.number());
            out.extend_from_slice(b"[");
        }
    }

    fn end(&self, out: &mut BytesMut) {
        if self.list.is_some() {
            out.extend_from_slice(b"]");
        }
        out.extend_from_slice(if self.is_empty { b"{}" } else { b"}" });
    }
}

/// A number, a claim or a name.
fn number(kind: &Kind, value: u64, out: &mut BytesMut) -> Result<(), Status> {
    // Negative ones of 32 bits are written with 64.
    #[expect(clippy::cast_possible_truncation, reason = "as protobuf reads them")]
    let small = value as u32;
    let written = match kind {
        Kind::Int64 => write!(out, "\"{}\"", value.cast_signed()),
        Kind::Uint64 => write!(out, "\"{value}\""),
        Kind::Int32 => write!(out, "{}", small.cast_signed()),
        Kind::Uint32 => write!(out, "{small}"),
        Kind::Bool => write!(out, "{}", value != 0),
        Kind::Enum(names) => match names.get_value(small.cast_signed()) {
            Some(value) => write!(out, "\"{}\"", value.name()),
            None => write!(out, "{}", small.cast_signed()),
        },
        Kind::Double
        | Kind::Float
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::String
        | Kind::Bytes
        | Kind::Message(_) => return Err(broken()),
    };
    written.map_err(|_| broken())
}

fn text(kind: &Kind, bytes: &[u8], out: &mut BytesMut) -> Result<(), Status> {
    if *kind == Kind::String {
        let text = std::str::from_utf8(bytes).map_err(|_| broken())?;
        let quoted = serde_json::to_string(text).map_err(|_| broken())?;
        out.extend_from_slice(quoted.as_bytes());
        return Ok(());
    }
    let start = out.len();
    let length = base64::encoded_len(bytes.len(), true).ok_or_else(broken)?;
    out.resize(start + length + 2, b'"');
    STANDARD
        .encode_slice(bytes, &mut out[start + 1..start + 1 + length])
        .map_err(|_| broken())?;
    Ok(())
}

/// Takes the next field off `rest`, if it is all there.
fn next(rest: &mut Bytes) -> Result<Next, Status> {
    // A view that is given up if the field is cut.
    let mut ahead = rest.clone();
    let Some(key) = varint(&mut ahead) else {
        return cut(rest);
    };
    let number = u32::try_from(key >> 3).map_err(|_| broken())?;
    let value = match key & 7 {
        VARINT => varint(&mut ahead).map(Value::Number),
        LENGTH => {
            let Some(length) = varint(&mut ahead) else {
                return cut(rest);
            };
            let length = usize::try_from(length).map_err(|_| broken())?;
            let is_there = ahead.len() >= length;
            is_there.then(|| Value::Bytes(ahead.split_to(length)))
        }
        FIXED64 => (ahead.len() >= 8).then(|| Value::Number(ahead.get_u64_le())),
        FIXED32 => (ahead.len() >= 4).then(|| Value::Number(ahead.get_u32_le().into())),
        _ => return Err(broken()),
    };
    let Some(value) = value else {
        return Ok(Next::Cut);
    };
    *rest = ahead;
    Ok(Next::Field(number, value))
}

/// A number is not there: either it is cut, or it is none.
fn cut(rest: &Bytes) -> Result<Next, Status> {
    match rest.len() >= 2 * VARINT_BYTES_MAX {
        true => Err(broken()),
        false => Ok(Next::Cut),
    }
}

fn varint(bytes: &mut Bytes) -> Option<u64> {
    let end = bytes
        .iter()
        .take(VARINT_BYTES_MAX)
        .position(|byte| byte & 0x80 == 0)?;
    let read = bytes.split_to(end + 1);
    let value = read
        .iter()
        .rev()
        .fold(0, |value: u64, byte| value << 7 | u64::from(byte & 0x7f));
    Some(value)
}

fn broken() -> Status {
    Status::internal("the answer is not of its kind")
}

#[cfg(test)]
mod tests {
    use coord_proto::etcd::etcdserverpb as pb;
    use coord_proto::etcd::mvccpb::{Event, KeyValue};
    use coord_proto::methods::METHODS;
    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

    use super::*;

    fn pool() -> DescriptorPool {
        DescriptorPool::decode(coord_proto::DESCRIPTORS).unwrap()
    }

    /// Written with `cut` bytes at a time, in pieces of `piece`.
    fn written(kind: &MessageDescriptor, message: &[u8], cut: usize, piece: usize) -> String {
        let mut writer = Writer::new(kind.clone(), message.len());
        let (mut all, mut out) = (Vec::new(), BytesMut::new());
        let mut parts = message.chunks(cut).map(Bytes::copy_from_slice);
        loop {
            match writer.write(&mut out, piece).unwrap() {
                Stopped::Full => all.extend(out.split()),
                Stopped::Starved => writer.feed(&mut parts.next().unwrap()),
                Stopped::Done => break,
            }
        }
        all.extend(out);
        String::from_utf8(all).unwrap()
    }

    fn canonical(kind: &MessageDescriptor, message: &[u8]) -> String {
        let message = DynamicMessage::decode(kind.clone(), message).unwrap();
        let options = SerializeOptions::new().use_proto_field_name(true);
        let mut text = serde_json::Serializer::new(Vec::new());
        message.serialize_with_options(&mut text, &options).unwrap();
        String::from_utf8(text.into_inner()).unwrap()
    }

    fn header() -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 1,
            revision: -1,
            raft_term: 0,
        })
    }

    fn range() -> pb::RangeResponse {
        let kv = |value: &'static [u8]| KeyValue {
            key: Bytes::from_static(b"key \xff"),
            value: Bytes::from_static(value),
            version: 1 << 40,
            ..KeyValue::default()
        };
        pb::RangeResponse {
            header: header(),
            kvs: vec![kv(b""), KeyValue::default(), kv(&[0; 300])],
            more: true,
            count: 3,
        }
    }

    #[test]
    fn it_is_the_canonical_json_however_it_comes_and_goes() {
        let range = range();
        let nested = pb::TxnResponse {
            header: header(),
            succeeded: true,
            responses: vec![
                pb::ResponseOp {
                    response: Some(pb::response_op::Response::ResponseRange(range.clone())),
                },
                pb::ResponseOp {
                    response: Some(pb::response_op::Response::ResponsePut(
                        pb::PutResponse::default(),
                    )),
                },
            ],
        };
        let event = Event {
            r#type: 1,
            kv: Some(range.kvs[0].clone()),
            prev_kv: None,
        };
        let watch = pb::WatchResponse {
            header: header(),
            watch_id: -1,
            events: vec![event, Event::default()],
            cancel_reason: "\"\n<é\u{1}".to_owned(),
            ..pb::WatchResponse::default()
        };
        let status = pb::StatusResponse {
            errors: vec!["one".to_owned(), String::new()],
            downgrade_info: Some(pb::DowngradeInfo::default()),
            is_learner: true,
            ..pb::StatusResponse::default()
        };
        let hash = pb::HashKvResponse {
            hash: u32::MAX,
            ..pb::HashKvResponse::default()
        };
        for (kind, message) in [
            ("RangeResponse", range.encode_to_vec()),
            ("TxnResponse", nested.encode_to_vec()),
            ("WatchResponse", watch.encode_to_vec()),
            ("StatusResponse", status.encode_to_vec()),
            ("HashKVResponse", hash.encode_to_vec()),
            ("PutResponse", Vec::new()),
        ] {
            let kind = pool()
                .get_message_by_name(&format!("etcdserverpb.{kind}"))
                .unwrap();
            let canonical = canonical(&kind, &message);
            for (cut, piece) in [(1, 1), (7, 50), (1 << 20, 20), (1 << 20, 1 << 20)] {
                assert_eq!(
                    written(&kind, &message, cut, piece),
                    canonical,
                    "{cut} {piece}"
                );
            }
        }
    }

    #[test]
    fn numbers_of_a_list_stand_together_and_unknown_ones_have_no_name() {
        let create = pb::WatchCreateRequest {
            filters: vec![0, 1, 77],
            ..pb::WatchCreateRequest::default()
        };
        let kind = pool().get_message_by_name("etcdserverpb.WatchCreateRequest");
        let text = written(&kind.unwrap(), &create.encode_to_vec(), 1 << 20, 1 << 20);
        assert_eq!(text, r#"{"filters":["NOPUT","NODELETE",77]}"#);
    }

    #[test]
    fn every_kind_that_answers_are_made_of_can_be_written() {
        fn look(kind: &MessageDescriptor, seen: &mut Vec<String>) {
            if seen.contains(&kind.full_name().to_owned()) {
                return;
            }
            seen.push(kind.full_name().to_owned());
            for field in kind.fields() {
                assert!(!field.is_map(), "{}", field.full_name());
                match field.kind() {
                    Kind::Message(inner) => look(&inner, seen),
                    Kind::String | Kind::Bytes => {}
                    kind => number(&kind, 1, &mut BytesMut::new()).unwrap(),
                }
            }
        }
        let mut seen = Vec::new();
        for method in METHODS.iter().filter(|method| !method.posts.is_empty()) {
            let service = pool().get_service_by_name(method.service).unwrap();
            let found = service.methods().find(|found| found.name() == method.name);
            look(&found.unwrap().output(), &mut seen);
        }
        assert!(seen.len() > 40, "{seen:?}");
    }

    #[test]
    fn what_is_no_message_of_its_kind_is_an_error() {
        let kind = pool().get_message_by_name("etcdserverpb.RangeResponse");
        let kind = kind.unwrap();
        for bytes in [b"\x12\x05ab".as_slice(), b"\x07", &[0xff; 30], b"\x18"] {
            let mut writer = Writer::new(kind.clone(), bytes.len());
            writer.feed(&mut Bytes::copy_from_slice(bytes));
            let mut out = BytesMut::new();
            assert!(writer.write(&mut out, 1 << 20).is_err(), "{bytes:?}");
        }
    }
}
