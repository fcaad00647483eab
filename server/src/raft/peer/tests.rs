//! Golden bytes of what members say to each other: a field that moves or changes its type breaks a rolling upgrade.
//!
//! Each message is made by the code that sends it, read by the code that receives it, and has the bytes that it has
//! always had.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use coord_proto::peer as wire;
use futures::StreamExt;
use openraft::Membership;
use openraft::raft::{
    StreamAppendError, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use prost::Message;

use super::{convert, sideband};
use crate::command::level::FIRST_LEVEL;
use crate::command::{ClusterId, Incarnation, LogPosition, MemberId, MemberRefusal, Unavailable};
use crate::raft::agreement::AppliedHash;
use crate::raft::membership::MemberChange;
use crate::raft::remembered;
use crate::raft::sideband::{Carried, Kind};
use crate::raft::types::{self, Entry, Log, Place, TypeConfig, Vote};
use crate::state::RunningHash;
use crate::wal;
use wire::forward_request::Ask;
use wire::forward_response::Answer;

/// The message has these bytes, and they are the message. They are among those kept for later versions.
#[track_caller]
fn pin<M: Message + Default + PartialEq + Debug>(message: M, golden: &str) -> M {
    let bytes = message.encode_to_vec();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden: String = golden.split_whitespace().collect();
    assert_eq!(hex, golden, "{message:?}");
    assert_eq!(M::decode(bytes.as_slice()).unwrap(), message);
    let name = std::any::type_name::<M>();
    let name = name.rsplit("::").next().unwrap();
    kept::keep(format!("{name} {hex}").trim_end());
    message
}

fn at(index: u64) -> Log {
    types::log_id(LogPosition {
        term: 3,
        leader: MemberId(0xa1),
        index,
    })
}

fn vote(committed: bool) -> Vote {
    types::vote(wal::Vote {
        term: 4,
        leader: MemberId(0xa2),
        committed,
    })
}

fn entry(index: u64, payload: wal::Payload) -> Entry {
    let position = types::position(&at(index));
    types::entry(wal::Entry { position, payload }).unwrap()
}

fn members() -> types::Members {
    let nodes = BTreeMap::from([(1, Place::at(vec!["http://a".to_owned()]))]);
    Membership::new(vec![BTreeSet::from([1])], nodes).unwrap()
}

const KIND: Kind = Kind(1);

fn carried() -> Carried {
    let waited = Duration::from_millis(5);
    Carried::received(KIND, Bytes::from_static(b"said"), waited)
}

#[test]
fn who_calls_whom() {
    let stamp = super::CallStamp {
        cluster: ClusterId(0xc0de),
        member: MemberId(0xa1),
        incarnation: Incarnation(0xbeef),
        level_max: 2,
    };
    let request = stamp.request(MemberId(0xa2), Some(Incarnation(0xfeed)), ());
    let said = |name| request.metadata().get(name).unwrap().to_str().unwrap();
    assert_eq!(request.metadata().len(), 6);
    assert_eq!(said("coord-cluster"), "c0de");
    assert_eq!(said("coord-from"), "a1");
    assert_eq!(said("coord-to"), "a2");
    assert_eq!(said("coord-incarnation"), "beef");
    assert_eq!(said("coord-level"), "2");
    assert_eq!(said("coord-to-incarnation"), "feed");
    let to_a_stranger = stamp.request(MemberId(0xa2), None, ());
    assert!(
        !to_a_stranger
            .metadata()
            .contains_key("coord-to-incarnation")
    );
}

#[test]
fn append_request() {
    let members = types::encode_members(&members(), FIRST_LEVEL);
    let request = openraft::raft::AppendEntriesRequest::<TypeConfig> {
        vote: vote(true),
        prev_log_id: Some(at(6)),
        entries: vec![
            entry(7, wal::Payload::Blank),
            entry(
                8,
                wal::Payload::Proposals(wal::Proposals::encoded(Bytes::from_static(b"envelope"))),
            ),
            entry(9, wal::Payload::Membership(members)),
        ],
        leader_commit: Some(at(6)),
    };
    let mut message = convert::append(request, 2, FIRST_LEVEL);
    message.sideband = Some(sideband::carried(&carried()));
    message.without_quorum = true;
    let applied = AppliedHash {
        index: 9,
        hash: RunningHash(0xab),
    };
    message.applied = Some(convert::applied_hash(applied));
    message.durable = 10;
    let message = pin(
        message,
        "0802120d080411a20000000000000018011a0d080311a1000000000000001806220f0a0d0803\
         11a1000000000000001807221b0a0d080311a100000000000000180810011a08656e76656c6f\
         706522410a0d080311a100000000000000180910021a2e020100000001000000010000000000\
         0000010000000100000000000000000100000008000000687474703a2f2f612a0d080311a100\
         000000000000180632 0a 0801 1204 73616964 1805 3801420b080911ab00000000000000480a",
    );
    let read = message.applied.as_ref().map(convert::read_applied_hash);
    assert_eq!(read, Some(applied));
    let leadership = convert::leadership(&message).unwrap();
    assert_eq!(leadership, (4, MemberId(0xa2)));
    let read = sideband::read_carried(message.sideband.clone().unwrap());
    assert_eq!(read, carried());
    let read = convert::read_append(message).unwrap();
    assert_eq!((read.vote, read.prev_log_id), (vote(true), Some(at(6))));
    assert_eq!((read.entries.len(), read.leader_commit), (3, Some(at(6))));
}

#[test]
fn remember_response() {
    let answer = remembered::Answer {
        memory: Some(wal::PeerMemory {
            member: MemberId(0xa3),
            term: 4,
            leader: MemberId(0xa2),
            acknowledged: 10,
        }),
        committed: Some(types::position(&at(6))),
    };
    let message = pin(
        convert::remembered(answer),
        "0a0b080411a200000000000000100a1a0d080311a1000000000000001806",
    );
    assert_eq!(convert::read_remembered(MemberId(0xa3), &message), answer);
    let nothing = remembered::Answer {
        memory: None,
        committed: None,
    };
    let message = pin(convert::remembered(nothing), "");
    assert_eq!(convert::read_remembered(MemberId(0xa3), &message), nothing);
}

#[test]
fn append_response() {
    let matched = pin(
        convert::appended(Ok(Some(at(9))), 2),
        "0802120f0a0d080311a1000000000000001809",
    );
    assert!(matches!(convert::read_appended(matched), Ok(Ok(Some(log))) if log == at(9)));
    let conflict = pin(
        convert::appended(Err(StreamAppendError::Conflict(at(6))), 3),
        "08031a0d080311a1000000000000001806",
    );
    assert!(matches!(
        convert::read_appended(conflict),
        Ok(Err(StreamAppendError::Conflict(log))) if log == at(6)
    ));
    let mut higher = convert::appended(Err(StreamAppendError::HigherVote(vote(false))), 4);
    higher.sideband = Some(sideband::bytes(KIND, Bytes::from_static(b"ok")));
    let higher = pin(higher, "0804220b080411a2000000000000002a06080112026f6b");
    assert!(matches!(
        convert::read_appended(higher),
        Ok(Err(StreamAppendError::HigherVote(higher))) if higher == vote(false)
    ));
}

#[test]
fn vote_request_and_response() {
    let mut request = VoteRequest::<TypeConfig>::new(vote(false), Some(at(9)));
    request.leadership_transfer = true;
    let message = pin(
        convert::vote_request(&request, true),
        "0a0b080411a200000000000000120d080311a100000000000000180918012001",
    );
    let read = convert::read_vote_request(message).unwrap();
    assert_eq!((read.vote, read.last_log_id), (vote(false), Some(at(9))));
    assert!(read.leadership_transfer);
    let response = VoteResponse::<TypeConfig>::new(vote(false), Some(at(8)), true);
    let message = pin(
        convert::vote_response(&response),
        "0a0b080411a20000000000000010011a0d080311a1000000000000001808",
    );
    let read = convert::read_vote_response(message).unwrap();
    assert_eq!((read.vote, read.last_log_id), (vote(false), Some(at(8))));
    assert!(read.vote_granted);
}

#[test]
fn transfer_request_and_response() {
    let request = TransferLeaderRequest::<TypeConfig>::new(vote(true), 0xa3, Some(at(9)));
    let message = pin(
        convert::transfer(&request),
        "0a0d080411a200000000000000180111a3000000000000001a0d080311a10000000000000018\
         09",
    );
    let read = convert::read_transfer(message).unwrap();
    assert_eq!(
        (read.to_node_id(), read.last_log_id()),
        (&0xa3, Some(&at(9)))
    );
    pin(convert::transferred(Ok(())), "");
    let changed = TransferLeaderError::VoteChanged {
        expected: vote(true),
        actual: vote(false),
    };
    let mut message = convert::transferred(Err(changed));
    // The text is for people.
    message.refused = "why".to_owned();
    let message = pin(message, "0a03776879120b080411a200000000000000");
    let read = convert::read_transferred(message, &request).unwrap();
    assert!(matches!(read, Err(TransferLeaderError::VoteChanged { .. })));
    let behind = TransferLeaderError::LogNotFlushed {
        expected: Some(at(9)),
        actual: Some(at(8)),
    };
    let mut message = convert::transferred(Err(behind));
    message.refused = "why".to_owned();
    let message = pin(message, "0a037768791a0d080311a1000000000000001808");
    let read = convert::read_transferred(message, &request).unwrap();
    assert!(matches!(
        read,
        Err(TransferLeaderError::LogNotFlushed { .. })
    ));
}

#[test]
fn snapshot_request_and_response() {
    use wire::snapshot_request::Part;
    let head = wire::SnapshotHead {
        vote: Some(convert::vote(&vote(true))),
        last: Some(convert::position(&at(9))),
        membership_position: Some(convert::position(&at(2))),
        membership: types::encode_members(&members(), FIRST_LEVEL),
    };
    let request = |part| wire::SnapshotRequest { part: Some(part) };
    pin(
        request(Part::Head(head)),
        "0a5d0a0d080411a2000000000000001801120d080311a10000000000000018091a0d080311a1\
         000000000000001802222e020100000001000000010000000000000001000000010000000000\
         0000000100000008000000687474703a2f2f61",
    );
    pin(
        request(Part::Chunk(Bytes::from_static(b"chunk"))),
        "12056368756e6b",
    );
    let response = wire::SnapshotResponse {
        vote: Some(convert::vote(&vote(true))),
    };
    pin(response, "0a0d080411a2000000000000001801");
}

#[test]
fn fetch_request_and_response() {
    pin(wire::FetchRequest { at_least: 9 }, "0809");
    let chunk = Bytes::from_static(b"chunk");
    pin(wire::FetchResponse { chunk }, "0a056368756e6b");
}

#[test]
fn forward_request_and_response() {
    let request = |ask| wire::ForwardRequest {
        number: 7,
        ask: Some(ask),
    };
    let proposals = wire::Proposals {
        term: 4,
        leader: 0xa2,
        envelope: Bytes::from_static(b"envelope"),
    };
    pin(
        request(Ask::Proposals(proposals)),
        "08071215080411a2000000000000001a08656e76656c6f7065",
    );
    pin(request(Ask::ReadIndex(wire::ReadIndex {})), "08071a00");
    let said = || sideband::bytes(KIND, Bytes::from_static(b"said"));
    pin(
        request(Ask::Sideband(said())),
        "0807 2208 0801 1204 73616964",
    );
    let response = |answer| wire::ForwardResponse {
        number: 7,
        answer: Some(answer),
    };
    pin(response(Answer::ReadIndex(9)), "08071809");
    pin(
        response(Answer::Sideband(said())),
        "0807 2208 0801 1204 73616964",
    );
    let whys = [
        Unavailable::NoLeader,
        Unavailable::LeaderChanged,
        Unavailable::Timeout,
        Unavailable::TooManyRequests,
        Unavailable::Stopped,
        Unavailable::Learner,
        Unavailable::Unhealthy,
    ];
    for (number, why) in (1..).zip(whys) {
        let refused = Answer::Refused(convert::unavailable(why).into());
        pin(response(refused), &format!("080710{number:02x}"));
        assert_eq!(convert::read_unavailable(convert::unavailable(why)), why);
    }
}

#[test]
fn change_request_and_response() {
    let id = MemberId(0xa4);
    let peer_urls = vec!["http://d".to_owned()];
    let changes = [
        (
            MemberChange::AddLearner {
                id,
                peer_urls: peer_urls.clone(),
            },
            "11a4000000000000001a08687474703a2f2f64",
        ),
        (
            MemberChange::AddVoter {
                id,
                peer_urls: peer_urls.clone(),
            },
            "080111a4000000000000001a08687474703a2f2f64",
        ),
        (
            MemberChange::Promote {
                id,
                with: Vec::new(),
            },
            "080211a400000000000000",
        ),
        (
            MemberChange::Promote {
                id,
                with: vec![MemberId(0xa5)],
            },
            "080211a4000000000000002208a500000000000000",
        ),
        (
            MemberChange::Remove {
                id,
                with: Vec::new(),
            },
            "080311a400000000000000",
        ),
        (
            MemberChange::Remove {
                id,
                with: vec![MemberId(0xa5)],
            },
            "080311a4000000000000002208a500000000000000",
        ),
        (
            MemberChange::SetPeerUrls { id, peer_urls },
            "080411a4000000000000001a08687474703a2f2f64",
        ),
    ];
    for (change, golden) in changes {
        let message = pin(convert::change(change.clone()), golden);
        assert_eq!(convert::read_change(message).unwrap(), change);
    }
    pin(convert::changed(Ok(())), "");
    let unavailable = Err(Unavailable::Unhealthy.into());
    let message = pin(convert::changed(unavailable.clone()), "08011007");
    assert_eq!(convert::read_changed(message, id), unavailable);
    let refusals = [
        MemberRefusal::NotFound(id),
        MemberRefusal::Exists(id),
        MemberRefusal::PeerUrlExists,
        MemberRefusal::NotLearner(id),
        MemberRefusal::LearnerNotReady(id),
        MemberRefusal::TooManyLearners,
        MemberRefusal::NotEnoughStarted,
        MemberRefusal::BadLeaderTransferee,
        MemberRefusal::NotLeader,
    ];
    for (number, refusal) in (2..).zip(refusals) {
        let refused = Err(refusal.into());
        let message = pin(
            convert::changed(refused.clone()),
            &format!("08{number:02x}"),
        );
        assert_eq!(convert::read_changed(message, id), refused);
    }
}

#[test]
fn confirm_request_and_response() {
    let request = wire::ConfirmRequest {
        membership: Some(convert::position(&at(2))),
    };
    pin(request, "0a0d080311a1000000000000001802");
    pin(wire::ConfirmResponse { removed: true }, "0801");
}

#[tokio::test]
async fn collect_request_and_response() {
    let request = wire::CollectRequest {
        term: 4,
        leader: 0xa2,
        ask: Some(sideband::bytes(KIND, Bytes::from_static(b"asked"))),
    };
    pin(request, "0804 11a200000000000000 1a09 0801 1205 61736b6564");
    let bodies = [b"one", b"two"].map(|page| Bytes::from_static(page));
    let pages: Vec<_> = sideband::pages(KIND, Box::new(bodies.into_iter()))
        .map(Result::unwrap)
        .collect()
        .await;
    for (page, golden) in pages.into_iter().zip(["6f6e65", "74776f"]) {
        pin(page, &format!("0801 1203 {golden}"));
    }
}

#[test]
fn join_request_and_response() {
    let request = wire::JoinRequest {
        token: "token".to_owned(),
        peer_urls: vec!["http://d".to_owned()],
        member: 0,
    };
    pin(request, "0a05746f6b656e1208687474703a2f2f64");
    let request = wire::JoinRequest {
        token: "token".to_owned(),
        peer_urls: Vec::new(),
        member: 0xa1,
    };
    pin(request, "0a05746f6b656e19a100000000000000");
    let response = wire::JoinResponse {
        cluster: 0xc0de,
        members: vec![wire::JoinMember {
            id: 0xa1,
            peer_urls: vec!["http://a".to_owned()],
            learner: true,
            started: true,
        }],
        own: 0xa4,
        level: 2,
        current: true,
    };
    pin(
        response,
        "09dec0000000000000121709a1000000000000001208687474703a2f2f611801200119a40000\
         000000000020022801",
    );
}
