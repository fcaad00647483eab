//! Requests made of the API's own descriptors: every method, every field at its extremes, alone and with others.

use anyhow::{Context, Result};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Longest key that is stored.
const KEY_MAX: usize = 32_768;
/// Messages inside messages; a transaction inside a transaction inside one.
const DEPTH_MAX: usize = 6;
/// Mixes of each method.
const MIXES: usize = 24;

/// A call.
#[derive(Clone, Debug)]
pub struct Extreme {
    /// `/package.Service/Method`.
    pub path: String,
    /// Whether it is a stream of requests.
    pub is_stream: bool,
    /// The extreme that it has.
    pub what: String,
    /// The request.
    pub request: Bytes,
}

/// Every method with each of its fields at each extreme, and with mixes of them, the same for the same seed.
///
/// `keys` are bytes that mean something to the store: names of keys, the bounds of ranges.
pub fn requests(descriptors: &[u8], keys: &[Bytes], seed: u64) -> Result<Vec<Extreme>> {
    let pool = DescriptorPool::decode(descriptors)?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            let input = method.input();
            let mut add = |what: String, message: DynamicMessage| {
                all.push(Extreme {
                    path: format!("/{}/{}", service.full_name(), method.name()),
                    is_stream: method.is_client_streaming(),
                    what,
                    request: message.encode_to_vec().into(),
                });
            };
            add("nothing".to_owned(), DynamicMessage::new(input.clone()));
            for field in input.fields() {
                for (number, value) in extremes(&field, keys, &mut random).into_iter().enumerate() {
                    let mut message = usual(&input, keys);
                    message.set_field(&field, value);
                    add(format!("{} {number}", field.name()), message);
                }
            }
            for number in 0..MIXES {
                add(format!("mix {number}"), mix(&input, keys, &mut random, 0));
            }
        }
    }
    Ok(all)
}

/// Where a message has a key, all keys there are: what a field changes is changed of much.
fn usual(message: &MessageDescriptor, keys: &[Bytes]) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    for name in ["key", "range_end"] {
        if let Some(field) = message.get_field_by_name(name)
            && let Some(first) = keys.first()
        {
            made.set_field(&field, Value::Bytes(first.clone()));
        }
    }
    made
}

fn mix(
    message: &MessageDescriptor,
    keys: &[Bytes],
    random: &mut StdRng,
    depth: usize,
) -> DynamicMessage {
    let mut made = usual(message, keys);
    for field in message.fields() {
        if random.random_bool(0.6) {
            let value = any(&field, keys, random, depth);
            made.set_field(&field, value);
        }
    }
    made
}

fn any(field: &FieldDescriptor, keys: &[Bytes], random: &mut StdRng, depth: usize) -> Value {
    let one = |random: &mut StdRng| match field.kind() {
        Kind::Message(message) if depth < DEPTH_MAX => {
            Value::Message(mix(&message, keys, random, depth + 1))
        }
        kind => {
            let values = plain(&kind, keys);
            values.choose(random).cloned().unwrap_or(Value::I32(0))
        }
    };
    if !field.is_list() {
        return one(random);
    }
    // Many of the outermost, few of those within: 128 of 128 would be too large to be sent.
    let count = match depth {
        0 => *[0, 1, 5, 127, 128, 129].choose(random).unwrap_or(&1),
        _ => random.random_range(0..3),
    };
    Value::List((0..count).map(|_| one(random)).collect())
}

/// All values of a field that are worth a request of their own.
fn extremes(field: &FieldDescriptor, keys: &[Bytes], random: &mut StdRng) -> Vec<Value> {
    let values = match field.kind() {
        Kind::Message(message) => {
            let mut values = vec![
                Value::Message(DynamicMessage::new(message.clone())),
                Value::Message(usual(&message, keys)),
            ];
            for inner in message.fields() {
                let value = any(&inner, keys, random, 1);
                let mut one = usual(&message, keys);
                one.set_field(&inner, value);
                values.push(Value::Message(one));
            }
            values
        }
        kind => plain(&kind, keys),
    };
    if !field.is_list() {
        return values;
    }
    let mut lists = vec![Value::List(values.clone())];
    for value in values {
        for count in [1, 128, 129] {
            lists.push(Value::List(vec![value.clone(); count]));
        }
    }
    lists
}

fn plain(kind: &Kind, keys: &[Bytes]) -> Vec<Value> {
    match kind {
        Kind::Bool => vec![Value::Bool(true)],
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            [0, 1, 2, 1000, -1, i64::MAX, i64::MAX - 1, i64::MIN]
                .map(Value::I64)
                .to_vec()
        }
        Kind::Uint64 | Kind::Fixed64 => [0, 1, u64::MAX, 1 << 63].map(Value::U64).to_vec(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            [0, 1, -1, i32::MAX, i32::MIN].map(Value::I32).to_vec()
        }
        Kind::Uint32 | Kind::Fixed32 => [0, 1, u32::MAX].map(Value::U32).to_vec(),
        Kind::Enum(numbers) => {
            let known = numbers.values().map(|value| value.number());
            known
                .chain([-1, 99, i32::MAX])
                .map(Value::EnumNumber)
                .collect()
        }
        Kind::String => ["", "x", "a\u{fffd}\0b", "http://h:1/"]
            .into_iter()
            .map(|text| Value::String(text.to_owned()))
            .chain([Value::String("s".repeat(100_000))])
            .collect(),
        Kind::Bytes => {
            let long = [1, KEY_MAX, KEY_MAX + 1, KEY_MAX + 2, 1_400_000];
            let long = long.map(|length| Bytes::from(vec![b'~'; length]));
            let all = keys.iter().cloned().chain([Bytes::new()]).chain(long);
            all.map(Value::Bytes).collect()
        }
        Kind::Double => vec![Value::F64(f64::NAN), Value::F64(f64::MAX)],
        Kind::Float => vec![Value::F32(f32::NAN)],
        Kind::Message(message) => vec![Value::Message(DynamicMessage::new(message.clone()))],
    }
}

/// A request as a message.
///
/// Errors: it is none.
pub fn message<M: Message + Default>(extreme: &Extreme) -> Result<M> {
    M::decode(extreme.request.clone()).with_context(|| extreme.path.clone())
}
