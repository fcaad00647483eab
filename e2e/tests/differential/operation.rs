//! Operations on both servers, written down as JSON: short to print, easy to alter, and the same for any method.

use std::fmt;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use std::sync::LazyLock;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(coord_proto::DESCRIPTORS).expect("our own definitions can be read")
});

/// The caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Nobody,
    /// With a token that means nobody.
    Stranger,
    /// With the token of the last time this user was authenticated; with none before.
    User(&'static str),
}

/// One step. Values that differ between servers stand in it by name: `lease#2` is the third lease whose id a server chose.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// A call with one message and one answer.
    Call {
        who: Who,
        path: &'static str,
        request: Value,
    },
    /// A stream of watches begins anew.
    Open { stream: usize, who: Who },
    /// A watcher on a stream.
    Watch { stream: usize, create: Value },
    /// A watcher is given up.
    Cancel { stream: usize, id: i64 },
    /// All streams have told all there is to tell.
    Settle,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { who, path, request } => write!(f, "{who:?} {path} {request}"),
            Self::Open { stream, who } => write!(f, "{who:?} opens stream {stream}"),
            Self::Watch { stream, create } => write!(f, "stream {stream} watches {create}"),
            Self::Cancel { stream, id } => write!(f, "stream {stream} cancels {id}"),
            Self::Settle => write!(f, "settle"),
        }
    }
}

/// The messages of a method.
pub(crate) fn messages(path: &str) -> Option<(MessageDescriptor, MessageDescriptor)> {
    let (service, name) = path.trim_start_matches('/').split_once('/')?;
    let service = POOL.get_service_by_name(service)?;
    let method = service.methods().find(|method| method.name() == name)?;
    Some((method.input(), method.output()))
}

/// A message by its name.
pub(crate) fn message(name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(name)
}

/// A message's bytes.
pub(crate) fn encoded(kind: MessageDescriptor, json: &Value) -> anyhow::Result<Vec<u8>> {
    Ok(DynamicMessage::deserialize(kind, json)?.encode_to_vec())
}

/// A message as JSON, with the names of the definitions.
pub(crate) fn decoded(kind: MessageDescriptor, bytes: &[u8]) -> anyhow::Result<Value> {
    let message = DynamicMessage::decode(kind, bytes)?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}
