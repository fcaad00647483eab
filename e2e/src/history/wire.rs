//! Messages of the wire inside a history's file: their own bytes, in hexadecimal, so that nothing of them is lost.

use std::fmt::Write as _;

use prost::Message;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

fn encode(message: &impl Message) -> String {
    message
        .encode_to_vec()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn decode<M: Message + Default>(text: &str) -> Option<M> {
    let bytes: Option<Vec<u8>> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect();
    M::decode(bytes?.as_slice()).ok()
}

/// One message.
pub mod one {
    use super::*;

    /// Writes it.
    pub fn serialize<M: Message, S: Serializer>(message: &M, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(message))
    }

    /// Reads it.
    pub fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(
        from: D,
    ) -> Result<M, D::Error> {
        let text = String::deserialize(from)?;
        decode(&text).ok_or_else(|| D::Error::custom("not a message in hexadecimal"))
    }
}

/// Several messages of one kind.
pub mod many {
    use super::*;

    /// Writes them.
    pub fn serialize<M: Message, S: Serializer>(messages: &[M], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(messages.iter().map(encode))
    }

    /// Reads them.
    pub fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<M>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let messages: Option<Vec<M>> = texts.iter().map(|text| decode(text)).collect();
        messages.ok_or_else(|| D::Error::custom("not a message in hexadecimal"))
    }
}
