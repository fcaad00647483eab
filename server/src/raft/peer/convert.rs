//! Peer messages from and to openraft's types. Total in one direction, checked in the other.

use coord_proto::peer as wire;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::raft::{StreamAppendResult, TransferLeaderResponse};
use tonic::Status;

use super::whole::is_whole;
use crate::command::{LeaderKey, LogPosition, MemberId, MemberRefusal, Unavailable};
use crate::raft::agreement::AppliedHash;
use crate::raft::membership::{ChangeError, MemberChange};
use crate::raft::remembered::Answer;
use crate::raft::types::{self, Entry, Log, TypeConfig, Vote};
use crate::state::RunningHash;
use crate::wal;

type Append = AppendEntriesRequest<TypeConfig>;

fn missing(what: &str) -> Status {
    Status::invalid_argument(format!("the message has no {what}"))
}

pub(super) fn position(log: &Log) -> wire::Position {
    wire_position(types::position(log))
}

pub(super) fn wire_position(position: LogPosition) -> wire::Position {
    wire::Position {
        term: position.term,
        leader: position.leader.0,
        index: position.index,
    }
}

pub(super) fn log_position(position: &wire::Position) -> LogPosition {
    LogPosition {
        term: position.term,
        leader: MemberId(position.leader),
        index: position.index,
    }
}

pub(super) fn log_id(position: &wire::Position) -> Log {
    types::log_id(log_position(position))
}

pub(super) fn vote(vote: &Vote) -> wire::VoteState {
    let vote = types::wal_vote(vote);
    wire::VoteState {
        term: vote.term,
        leader: vote.leader.0,
        committed: vote.committed,
    }
}

/// The leadership whose heartbeat it is.
pub(super) fn leadership(request: &wire::AppendRequest) -> Result<LeaderKey, Status> {
    let vote = types::wal_vote(&read_vote(request.vote)?);
    Ok((vote.term, vote.leader))
}

pub(super) fn read_vote(vote: Option<wire::VoteState>) -> Result<Vote, Status> {
    let wire::VoteState {
        term,
        leader,
        committed,
    } = vote.ok_or_else(|| missing("vote"))?;
    Ok(types::vote(wal::Vote {
        term,
        leader: MemberId(leader),
        committed,
    }))
}

fn entry(entry: Entry, level: u32) -> wire::Entry {
    use wire::entry::Kind;
    let wal::Entry { position, payload } = types::wal_entry(entry, level);
    let kind = match payload {
        wal::Payload::Blank => Kind::Blank,
        wal::Payload::Proposals(_) => Kind::Proposals,
        wal::Payload::Membership(_) => Kind::Membership,
    };
    wire::Entry {
        position: Some(wire_position(position)),
        kind: kind.into(),
        payload: payload.bytes().cloned().unwrap_or_default(),
    }
}

fn read_entry(entry: wire::Entry) -> Result<Entry, Status> {
    use wire::entry::Kind;
    // An unknown kind must not pass for the first one: this member would apply nothing where others do something.
    let kind = Kind::try_from(entry.kind).map_err(|_| missing("known kind of entry"))?;
    let position = entry.position.as_ref().ok_or_else(|| missing("position"))?;
    let payload = match kind {
        Kind::Blank if entry.payload.is_empty() => wal::Payload::Blank,
        Kind::Blank => return Err(missing("kind for its payload")),
        Kind::Proposals => wal::Payload::Proposals(wal::Proposals::encoded(entry.payload)),
        Kind::Membership => wal::Payload::Membership(entry.payload),
    };
    let entry = wal::Entry {
        position: log_position(position),
        payload,
    };
    types::entry(entry).map_err(|fault| Status::invalid_argument(fault.to_string()))
}

/// A request of a leader whose cluster is at this level.
pub(super) fn append(request: Append, number: u64, level: u32) -> wire::AppendRequest {
    let Append {
        vote: leader,
        prev_log_id,
        entries,
        leader_commit,
    } = request;
    wire::AppendRequest {
        number,
        vote: Some(vote(&leader)),
        previous: prev_log_id.as_ref().map(position),
        entries: entries.into_iter().map(|one| entry(one, level)).collect(),
        committed: leader_commit.as_ref().map(position),
        sideband: None,
        without_quorum: false,
        applied: None,
        durable: 0,
    }
}

pub(super) fn applied_hash(applied: AppliedHash) -> wire::AppliedHash {
    let AppliedHash {
        index,
        hash: RunningHash(hash),
    } = applied;
    wire::AppliedHash { index, hash }
}

pub(super) fn read_applied_hash(applied: &wire::AppliedHash) -> AppliedHash {
    AppliedHash {
        index: applied.index,
        hash: RunningHash(applied.hash),
    }
}

pub(super) fn read_append(request: wire::AppendRequest) -> Result<Append, Status> {
    let append = Append {
        vote: read_vote(request.vote)?,
        prev_log_id: request.previous.as_ref().map(log_id),
        entries: request
            .entries
            .into_iter()
            .map(read_entry)
            .collect::<Result<_, _>>()?,
        leader_commit: request.committed.as_ref().map(log_id),
    };
    if is_whole(&append) {
        Ok(append)
    } else {
        Err(Status::invalid_argument("entries do not follow each other"))
    }
}

pub(super) fn appended(
    result: StreamAppendResult<TypeConfig>,
    number: u64,
) -> wire::AppendResponse {
    use wire::append_response::Result as Word;
    let word = match result {
        Ok(matched) => Word::Matched(wire::Matched {
            position: matched.as_ref().map(position),
        }),
        Err(StreamAppendError::Conflict(at)) => Word::Conflict(position(&at)),
        Err(StreamAppendError::HigherVote(higher)) => Word::HigherVote(vote(&higher)),
    };
    wire::AppendResponse {
        number,
        result: Some(word),
        sideband: None,
        applied: None,
    }
}

pub(super) fn read_appended(
    response: wire::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    use wire::append_response::Result as Word;
    Ok(match response.result.ok_or_else(|| missing("result"))? {
        Word::Matched(matched) => Ok(matched.position.as_ref().map(log_id)),
        Word::Conflict(at) => Err(StreamAppendError::Conflict(log_id(&at))),
        Word::HigherVote(higher) => Err(StreamAppendError::HigherVote(read_vote(Some(higher))?)),
    })
}

pub(super) fn remembered(answer: Answer) -> wire::RememberResponse {
    let Answer { memory, committed } = answer;
    wire::RememberResponse {
        vote: memory.map(|memory| wire::VoteState {
            term: memory.term,
            leader: memory.leader.0,
            committed: false,
        }),
        acknowledged: memory.map_or(0, |memory| memory.acknowledged),
        committed: committed.map(wire_position),
    }
}

pub(super) fn read_remembered(of: MemberId, response: &wire::RememberResponse) -> Answer {
    Answer {
        memory: response.vote.as_ref().map(|vote| wal::PeerMemory {
            member: of,
            term: vote.term,
            leader: MemberId(vote.leader),
            acknowledged: response.acknowledged,
        }),
        committed: response.committed.as_ref().map(log_position),
    }
}

pub(super) fn vote_request(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote(&request.vote)),
        last: request.last_log_id.as_ref().map(position),
        pre_vote,
        transfer: request.leadership_transfer,
    }
}

pub(super) fn read_vote_request(
    request: wire::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Status> {
    let last = request.last.as_ref().map(log_id);
    let mut read = VoteRequest::new(read_vote(request.vote)?, last);
    read.leadership_transfer = request.transfer;
    Ok(read)
}

pub(super) fn vote_response(response: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(position),
    }
}

pub(super) fn read_vote_response(
    response: wire::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Status> {
    let last = response.last.as_ref().map(log_id);
    Ok(VoteResponse::new(
        read_vote(response.vote)?,
        last,
        response.granted,
    ))
}

pub(super) fn transfer(request: &TransferLeaderRequest<TypeConfig>) -> wire::TransferRequest {
    wire::TransferRequest {
        from: Some(vote(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(position),
    }
}

pub(super) fn read_transfer(
    request: wire::TransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Status> {
    let last = request.last.as_ref().map(log_id);
    Ok(TransferLeaderRequest::new(
        read_vote(request.from)?,
        request.to,
        last,
    ))
}

pub(super) fn transferred(response: TransferLeaderResponse<TypeConfig>) -> wire::TransferResponse {
    let Err(error) = response else {
        return wire::TransferResponse::default();
    };
    let refused = error.to_string();
    match error {
        TransferLeaderError::VoteChanged { actual, .. } => wire::TransferResponse {
            refused,
            vote: Some(vote(&actual)),
            last: None,
        },
        TransferLeaderError::LogNotFlushed { actual, .. } => wire::TransferResponse {
            refused,
            vote: None,
            last: actual.as_ref().map(position),
        },
    }
}

pub(super) fn read_transferred(
    response: wire::TransferResponse,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, Status> {
    if response.refused.is_empty() {
        return Ok(Ok(()));
    }
    Ok(Err(match response.vote {
        Some(actual) => TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: read_vote(Some(actual))?,
        },
        None => TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: response.last.as_ref().map(log_id),
        },
    }))
}

pub(super) fn unavailable(why: Unavailable) -> wire::Unavailable {
    match why {
        Unavailable::NoLeader => wire::Unavailable::NoLeader,
        Unavailable::LeaderChanged => wire::Unavailable::LeaderChanged,
        Unavailable::Timeout => wire::Unavailable::Timeout,
        Unavailable::TooManyRequests => wire::Unavailable::TooManyRequests,
        Unavailable::Stopped => wire::Unavailable::Stopped,
        Unavailable::Learner => wire::Unavailable::Learner,
        Unavailable::Unhealthy => wire::Unavailable::Unhealthy,
    }
}

pub(super) fn read_unavailable(why: wire::Unavailable) -> Unavailable {
    match why {
        wire::Unavailable::NoLeader => Unavailable::NoLeader,
        wire::Unavailable::LeaderChanged => Unavailable::LeaderChanged,
        // A later version may say things that this one does not know.
        wire::Unavailable::Timeout | wire::Unavailable::Unknown => Unavailable::Timeout,
        wire::Unavailable::TooManyRequests => Unavailable::TooManyRequests,
        wire::Unavailable::Stopped => Unavailable::Stopped,
        wire::Unavailable::Learner => Unavailable::Learner,
        wire::Unavailable::Unhealthy => Unavailable::Unhealthy,
    }
}

pub(super) fn change(change: MemberChange) -> wire::ChangeRequest {
    use wire::change_request::Kind;
    let mut with = Vec::new();
    let (kind, member, peer_urls) = match change {
        MemberChange::AddLearner { id, peer_urls } => (Kind::AddLearner, id, peer_urls),
        MemberChange::AddVoter { id, peer_urls } => (Kind::AddVoter, id, peer_urls),
        MemberChange::Promote { id, with: others } => {
            with = others.into_iter().map(|id| id.0).collect();
            (Kind::Promote, id, Vec::new())
        }
        MemberChange::Remove { id, with: others } => {
            with = others.into_iter().map(|id| id.0).collect();
            (Kind::Remove, id, Vec::new())
        }
        MemberChange::SetPeerUrls { id, peer_urls } => (Kind::SetPeerUrls, id, peer_urls),
    };
    wire::ChangeRequest {
        kind: kind.into(),
        member: member.0,
        peer_urls,
        with,
    }
}

pub(super) fn read_change(request: wire::ChangeRequest) -> Result<MemberChange, Status> {
    use wire::change_request::Kind;
    let kind = Kind::try_from(request.kind)
        .map_err(|_| Status::invalid_argument("the change is unknown to this version"))?;
    let (id, peer_urls) = (MemberId(request.member), request.peer_urls);
    let with = request.with.into_iter().map(MemberId).collect();
    Ok(match kind {
        Kind::AddLearner => MemberChange::AddLearner { id, peer_urls },
        Kind::AddVoter => MemberChange::AddVoter { id, peer_urls },
        Kind::Promote => MemberChange::Promote { id, with },
        Kind::Remove => MemberChange::Remove { id, with },
        Kind::SetPeerUrls => MemberChange::SetPeerUrls { id, peer_urls },
    })
}

pub(super) fn changed(result: Result<(), ChangeError>) -> wire::ChangeResponse {
    use wire::change_response::Result as Word;
    let word = match &result {
        Ok(()) => Word::Done,
        Err(ChangeError::Unavailable(_)) => Word::Unavailable,
        Err(ChangeError::Refused(refusal)) => match refusal {
            MemberRefusal::NotFound(_) => Word::MemberNotFound,
            MemberRefusal::Exists(_) => Word::MemberExists,
            MemberRefusal::PeerUrlExists => Word::PeerUrlExists,
            MemberRefusal::NotLearner(_) => Word::NotLearner,
            MemberRefusal::LearnerNotReady(_) => Word::LearnerNotReady,
            MemberRefusal::TooManyLearners => Word::TooManyLearners,
            MemberRefusal::NotEnoughStarted => Word::NotEnoughStartedMembers,
            MemberRefusal::BadLeaderTransferee => Word::BadLeaderTransferee,
            MemberRefusal::NotLeader => Word::NotLeader,
            // Only of an entry that publishes a member; a change of members is never refused with it.
            MemberRefusal::Wiped(_) => Word::MemberExists,
        },
    };
    let why = match result {
        Err(ChangeError::Unavailable(why)) => unavailable(why),
        Ok(()) | Err(ChangeError::Refused(_)) => wire::Unavailable::Unknown,
    };
    wire::ChangeResponse {
        result: word.into(),
        unavailable: why.into(),
    }
}

pub(super) fn read_changed(
    response: wire::ChangeResponse,
    member: MemberId,
) -> Result<(), ChangeError> {
    use wire::change_response::Result as Word;
    let Ok(word) = Word::try_from(response.result) else {
        return Err(Unavailable::Timeout.into());
    };
    Err(match word {
        Word::Done => return Ok(()),
        Word::Unavailable => return Err(read_unavailable(response.unavailable()).into()),
        Word::MemberNotFound => MemberRefusal::NotFound(member),
        Word::MemberExists => MemberRefusal::Exists(member),
        Word::PeerUrlExists => MemberRefusal::PeerUrlExists,
        Word::NotLearner => MemberRefusal::NotLearner(member),
        Word::LearnerNotReady => MemberRefusal::LearnerNotReady(member),
        Word::TooManyLearners => MemberRefusal::TooManyLearners,
        Word::NotEnoughStartedMembers => MemberRefusal::NotEnoughStarted,
        Word::BadLeaderTransferee => MemberRefusal::BadLeaderTransferee,
        Word::NotLeader => MemberRefusal::NotLeader,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::command::level::FIRST_LEVEL;

    fn sample() -> wire::AppendRequest {
        let at = |index| {
            Some(wire::Position {
                term: 3,
                leader: 7,
                index,
            })
        };
        let entry = |index, kind: wire::entry::Kind, payload: &'static [u8]| wire::Entry {
            position: at(index),
            kind: kind.into(),
            payload: payload.into(),
        };
        let members = types::encode_members(&types::Members::default(), FIRST_LEVEL);
        wire::AppendRequest {
            number: 5,
            vote: Some(wire::VoteState {
                term: 3,
                leader: 7,
                committed: true,
            }),
            previous: at(1),
            entries: vec![
                entry(2, wire::entry::Kind::Blank, b""),
                entry(3, wire::entry::Kind::Proposals, b"proposals"),
                wire::Entry {
                    payload: members,
                    ..entry(4, wire::entry::Kind::Membership, b"")
                },
            ],
            committed: at(2),
            sideband: None,
            without_quorum: false,
            applied: None,
            durable: 0,
        }
    }

    fn is_the_same_again(message: &wire::AppendRequest) -> bool {
        let read = read_append(message.clone());
        read.is_ok_and(|request| append(request, message.number, FIRST_LEVEL) == *message)
    }

    #[test]
    fn an_append_is_the_same_on_the_other_side() {
        assert!(is_the_same_again(&sample()));
    }

    #[test]
    fn entries_with_a_gap_are_refused() {
        let mut message = sample();
        message.entries.remove(1);
        assert!(read_append(message).is_err());
        let mut message = sample();
        message.entries.remove(0);
        assert!(read_append(message).is_err());
    }

    #[test]
    fn an_entry_of_an_unknown_kind_is_refused() {
        let mut message = sample();
        message.entries[1].kind = 3;
        assert!(read_append(message).is_err());
        let mut message = sample();
        message.entries[0].payload = "something".into();
        assert!(read_append(message).is_err());
    }

    proptest! {
        /// Every field that is read means what was sent, not something near it.
        #[test]
        fn changed_bytes_of_an_append_are_refused_or_read_as_they_are(at: usize, bytes: [u8; 3]) {
            let mut changed = sample().encode_to_vec();
            let at = at % changed.len();
            let end = changed.len().min(at + 1 + usize::from(bytes[0] % 2));
            changed[at..end].copy_from_slice(&bytes[1..=end - at]);
            if let Ok(mut message) = wire::AppendRequest::decode(changed.as_slice())
                && read_append(message.clone()).is_ok()
            {
                // Read apart from the append.
                message.sideband = None;
                message.without_quorum = false;
                message.applied = None;
                message.durable = 0;
                prop_assert!(is_the_same_again(&message), "{:?}", message);
            }
        }

        #[test]
        fn any_bytes_are_no_panic(bytes: Vec<u8>) {
            let _ = wire::AppendRequest::decode(bytes.as_slice()).map(read_append);
            let _ = wire::VoteRequest::decode(bytes.as_slice()).map(read_vote_request);
            let _ = wire::TransferRequest::decode(bytes.as_slice()).map(read_transfer);
            let _ = wire::ChangeRequest::decode(bytes.as_slice()).map(read_change);
        }
    }
}
