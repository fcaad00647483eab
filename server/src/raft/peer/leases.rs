//! Copies of the countdown of leases, on the wire.

use std::time::Duration;

use coord_proto::peer as wire;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::Status;

use super::convert;
use super::line::{Peers, Purpose};
use crate::clock::Moment;
use crate::command::{
    LeaderKey, LeaderMillis, LeaseAck, LeaseCopy, LeaseDelta, LeaseId, LeaseTable, MemberId,
    Unavailable,
};

/// Leases in one page of a copy: a quarter of a megabyte.
const PAGE: usize = 16 * 1024;
/// How long a member may take for its whole copy.
const RECALL_MAX: Duration = Duration::from_secs(5);
/// Stands for the end of a lease that is gone.
const GONE: i64 = i64::MIN;

pub(super) fn news(news: LeaseDelta) -> wire::LeaseDelta {
    let LeaseDelta {
        // The heartbeat's own vote says it.
        leadership: _,
        now,
        through,
        copy,
        whole,
        from,
        changes,
    } = news;
    wire::LeaseDelta {
        now: now.0,
        through,
        copy,
        whole,
        from,
        ids: changes.iter().map(|(id, _)| id.0).collect(),
        ends: changes
            .iter()
            .map(|(_, ends)| ends.map_or(GONE, |ends| ends.0))
            .collect(),
    }
}

pub(super) fn read_news(
    leadership: LeaderKey,
    news: wire::LeaseDelta,
) -> Result<LeaseDelta, Status> {
    let wire::LeaseDelta {
        now,
        through,
        copy,
        whole,
        from,
        ids,
        ends,
    } = news;
    let changes = pairs(ids, ends)?;
    let end = |ends| (ends != GONE).then_some(LeaderMillis(ends));
    Ok(LeaseDelta {
        leadership,
        now: LeaderMillis(now),
        through,
        copy,
        whole,
        from,
        changes: changes.map(|(id, ends)| (id, end(ends))).collect(),
    })
}

pub(super) fn receipt(receipt: LeaseAck) -> wire::LeaseAck {
    use wire::lease_ack::Word;
    let (word, copy, upto) = match receipt {
        LeaseAck::NotFollowing => (Word::NotFollowing, 0, 0),
        LeaseAck::Taken { copy, upto } => (Word::Taken, copy, upto),
        LeaseAck::Again => (Word::Again, 0, 0),
    };
    wire::LeaseAck {
        word: word.into(),
        copy,
        upto,
    }
}

pub(super) fn read_receipt(receipt: wire::LeaseAck) -> LeaseAck {
    use wire::lease_ack::Word;
    let wire::LeaseAck { copy, upto, .. } = receipt;
    match receipt.word() {
        Word::NotFollowing => LeaseAck::NotFollowing,
        Word::Taken => LeaseAck::Taken { copy, upto },
        Word::Again => LeaseAck::Again,
    }
}

/// The pages of an answer to a new leader; at least one.
pub(super) fn pages(recall: LeaseCopy) -> BoxStream<'static, Result<wire::RecallResponse, Status>> {
    use wire::recall_response::Word;
    let alone = |word: Word| {
        let page = wire::RecallResponse {
            word: word.into(),
            ..Default::default()
        };
        futures::stream::iter([Ok(page)]).boxed()
    };
    let LeaseTable {
        leadership: (term, leader),
        now,
        through,
        ends,
    } = match recall {
        LeaseCopy::NotFollowing => return alone(Word::NotFollowing),
        LeaseCopy::Nothing => return alone(Word::Nothing),
        LeaseCopy::Table(table) => table,
    };
    let count = ends.len().div_ceil(PAGE).max(1);
    let page = move |number: usize| {
        let rows = ends.iter().skip(number * PAGE).take(PAGE);
        Ok(wire::RecallResponse {
            word: Word::Copy.into(),
            term,
            leader: leader.0,
            now: now.0,
            through,
            ids: rows.clone().map(|(id, _)| id.0).collect(),
            ends: rows.map(|(_, ends)| ends.0).collect(),
        })
    };
    futures::stream::iter((0..count).map(page)).boxed()
}

/// Asks a member for its copy.
pub(in crate::raft) async fn recall(
    peers: &Peers,
    peer: MemberId,
    urls: &[String],
    leadership: LeaderKey,
) -> Result<LeaseCopy, Unavailable> {
    let line = peers.line(peer, urls, Purpose::Control);
    let message = wire::RecallRequest {
        term: leadership.0,
        leader: leadership.1.0,
    };
    let asked = async {
        let call = line.request(message);
        let mut pages = line.client()?.recall(call).await?.into_inner();
        let first = pages.message().await?;
        let first = first.ok_or_else(|| Status::unavailable("the peer sent no page"))?;
        let received = Moment::now();
        let mut recall = read_page(first)?;
        while let Some(page) = pages.message().await? {
            if let (LeaseCopy::Table(table), LeaseCopy::Table(more)) =
                (&mut recall, read_page(page)?)
            {
                table.ends.extend(more.ends);
            }
        }
        if let LeaseCopy::Table(table) = &mut recall {
            // The member's clock has gone on while its pages came in.
            let since = Moment::now().since(received).as_millis();
            table.now.0 += i64::try_from(since).unwrap_or(i64::MAX);
        }
        Ok::<_, Status>(recall)
    };
    let asked = tokio::time::timeout(RECALL_MAX, asked).await;
    match asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
        Ok(recall) => Ok(recall),
        Err(status) => {
            line.failed(&status);
            Err(Unavailable::LeaderChanged)
        }
    }
}

pub(super) fn read_page(page: wire::RecallResponse) -> Result<LeaseCopy, Status> {
    use wire::recall_response::Word;
    match page.word() {
        Word::NotFollowing => return Ok(LeaseCopy::NotFollowing),
        Word::Nothing => return Ok(LeaseCopy::Nothing),
        Word::Copy => {}
    }
    let wire::RecallResponse {
        word: _,
        term,
        leader,
        now,
        through,
        ids,
        ends,
    } = page;
    let rows = pairs(ids, ends)?;
    Ok(LeaseCopy::Table(LeaseTable {
        leadership: (term, MemberId(leader)),
        now: LeaderMillis(now),
        through,
        ends: rows.map(|(id, ends)| (id, LeaderMillis(ends))).collect(),
    }))
}

fn pairs(ids: Vec<i64>, ends: Vec<i64>) -> Result<impl Iterator<Item = (LeaseId, i64)>, Status> {
    if ids.len() != ends.len() {
        return Err(Status::invalid_argument("a lease has no end"));
    }
    Ok(ids.into_iter().map(LeaseId).zip(ends))
}

/// Whose heartbeat it is.
pub(super) fn leadership(request: &wire::AppendRequest) -> Result<LeaderKey, Status> {
    let vote = convert::read_vote(request.vote)?;
    Ok((vote.leader_id.term, MemberId(vote.leader_id.node_id)))
}
