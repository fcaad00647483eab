//! The records that members publish of themselves.

use std::collections::BTreeMap;

use super::law::Law;
use super::ledger::{self, system_key, tag};
use super::spaces::SYSTEM;
use crate::command::codec::Canonical;
use crate::command::codec::wire::{Reader, Writer};
use crate::command::{Fault, MemberId, MemberRecord, MemberRefusal, Refusal, Response};
use crate::disk::Rows;
use crate::failpoints::{self, Bug};

impl Law<'_> {
    /// Records a member. The incarnation recorded first stands for good: one that lost its disk lost its votes with it,
    /// and must come back under a new id.
    pub(super) fn publish(&mut self, record: &MemberRecord) -> Result<Response, Refusal> {
        if let Some(known) = self.members.get(&record.id) {
            if known.incarnation != record.incarnation && !failpoints::has(Bug::NodeIdReused) {
                return Err(Refusal::Member(MemberRefusal::Wiped(record.id)));
            }
            if known == record {
                return Ok(Response::Done);
            }
        }
        let mut out = Writer::with_capacity(128);
        record.write(&mut out);
        self.rows.put(
            SYSTEM,
            system_key(tag::MEMBER, &record.id.0.to_be_bytes()),
            out.finish(),
        );
        self.members.insert(record.id, record.clone());
        Ok(Response::Done)
    }
}

pub(super) fn load(rows: &Rows<'_>) -> Result<BTreeMap<MemberId, MemberRecord>, Fault> {
    let mut members = BTreeMap::new();
    ledger::each(rows, tag::MEMBER, |_, row| {
        let mut input = Reader::new(row);
        let record = MemberRecord::read(&mut input)?;
        members.insert(record.id, record);
        input.end()
    })?;
    Ok(members)
}
