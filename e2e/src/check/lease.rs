//! The promise of a lease: its keys live as long as it is renewed, are gone soon after, and go together.
//!
//! Times are the clients': a server saw a renewal at some time between its call and its answer, so a key must be there
//! until the last renewal's *call* plus TTL, and may stay until the last *answer* plus TTL and a grace.

use std::time::Duration;

use coord_proto::etcd::mvccpb::Event;
use serde::{Deserialize, Serialize};

use super::{Violation, is_delete, kv, require, text};

/// A grant or a renewal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Renewal {
    /// When it was sent.
    pub began: Duration,
    /// When its answer was there; `None` if none came, and it may have happened at any time since.
    pub ended: Option<Duration>,
}

/// A read of the lease's key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Read {
    /// When it was sent.
    pub began: Duration,
    /// When its answer was there.
    pub ended: Duration,
    /// Whether the key was there.
    pub is_there: bool,
}

/// One lease with one key, which nothing but the lease deletes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Life {
    /// Names it in a violation.
    pub id: i64,
    /// The TTL that the server granted.
    pub ttl: Duration,
    /// The grant and the renewals that did not answer "no such lease".
    pub renewals: Vec<Renewal>,
    /// When the put that attached the key was answered.
    pub attached: Duration,
    /// When a revoke was sent, if one was: from then on the key may be gone.
    pub revoked: Option<Duration>,
    /// Linearizable reads of the key.
    pub reads: Vec<Read>,
}

/// Checks one lease.
///
/// `grace` is what the cluster may take beyond the TTL: an election, and the work of expiring. `troubled` are the times,
/// ascending, in which there may have been no leader to end it: after one, its whole time may begin anew. That a key does
/// not go *early* is judged even in trouble.
pub fn check(
    life: &Life,
    grace: Duration,
    troubled: &[(Duration, Duration)],
) -> Result<(), Violation> {
    let Life {
        id,
        ttl,
        renewals,
        attached,
        revoked,
        reads,
    } = life;
    let mut was_gone = false;
    let mut by_begin: Vec<&Read> = reads.iter().collect();
    by_begin.sort_by_key(|read| read.began);
    for read in by_begin {
        // The latest renewal that was surely over when this read began decides what is promised at its end.
        let promised = renewals
            .iter()
            .filter(|renewal| renewal.ended.is_some_and(|ended| ended <= read.began))
            .map(|renewal| renewal.began + *ttl)
            .max();
        let is_promised = read.began >= *attached
            && promised.is_some_and(|until| read.ended < until)
            && revoked.is_none_or(|revoked| read.ended < revoked);
        require!(
            read.is_there || !is_promised,
            "lease {id}: the key was gone at {:?}, though its lease lived until {promised:?} at least",
            read.ended
        );
        let latest = renewals
            .iter()
            .filter(|renewal| renewal.began <= read.began);
        // An unanswered renewal may have come late, but no later than a request is carried about.
        let due = latest
            .map(|renewal| renewal.ended.unwrap_or(renewal.began + grace) + *ttl + grace)
            .max()
            .map(|due| prolonged(due, *ttl + grace, troubled));
        require!(
            !read.is_there || due.is_none_or(|due| read.began <= due),
            "lease {id}: the key was still there at {:?}, though its lease ended by {due:?}",
            read.began
        );
        require!(
            !(read.is_there && was_gone),
            "lease {id}: the key came back at {:?}",
            read.ended
        );
        was_gone |= !read.is_there && read.began >= *attached;
    }
    Ok(())
}

/// When a lease is surely over that would be over at `due`, if each trouble before then may give it `again`.
fn prolonged(due: Duration, again: Duration, troubled: &[(Duration, Duration)]) -> Duration {
    troubled.iter().fold(due, |due, (began, ended)| {
        if *began <= due {
            due.max(*ended + again)
        } else {
            due
        }
    })
}

/// Checks that the end of a lease deleted all its keys in one revision, in key order.
///
/// `keys` are those attached at the end; `log` holds every event of them since. A lease that has not ended passes.
pub fn check_end(id: i64, keys: &[&str], log: &[Event]) -> Result<(), Violation> {
    let mut deleted = Vec::new();
    for event in log.iter().filter(|event| is_delete(event)) {
        let kv = kv(event)?;
        if keys.contains(&text(&kv.key).as_str()) {
            deleted.push((kv.mod_revision, text(&kv.key)));
        }
    }
    let Some((revision, _)) = deleted.first().cloned() else {
        return Ok(());
    };
    require!(
        deleted.iter().all(|(at, _)| *at == revision),
        "lease {id}: its keys were deleted in several revisions: {deleted:?}"
    );
    let mut expected: Vec<&str> = keys.to_vec();
    expected.sort_unstable();
    let found: Vec<&str> = deleted.iter().map(|(_, key)| key.as_str()).collect();
    require!(
        found == expected,
        "lease {id}: of the keys {expected:?} these were deleted: {found:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use coord_proto::etcd::mvccpb::KeyValue;
    use coord_proto::etcd::mvccpb::event::EventType;

    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn renewal(began: f64, ended: f64) -> Renewal {
        Renewal {
            began: s(began),
            ended: Some(s(ended)),
        }
    }

    fn read(at: f64, is_there: bool) -> Read {
        Read {
            began: s(at),
            ended: s(at + 0.1),
            is_there,
        }
    }

    /// TTL 5: granted at 0, renewed at 3, so due between 8 and 10.1.
    fn life(reads: &[Read]) -> Life {
        Life {
            id: 1,
            ttl: s(5.0),
            renewals: vec![renewal(0.0, 0.1), renewal(3.0, 3.1)],
            attached: s(0.5),
            revoked: None,
            reads: reads.to_vec(),
        }
    }

    #[test]
    fn a_key_that_lives_its_time_passes() {
        check(
            &life(&[
                read(1.0, true),
                read(7.8, true),
                read(9.0, true),
                read(9.5, false),
                read(12.0, false),
            ]),
            GRACE,
            &[],
        )
        .unwrap();
        check(
            &life(&[read(0.0, false), read(1.0, true), read(8.1, false)]),
            GRACE,
            &[],
        )
        .unwrap();
    }

    #[test]
    fn a_key_gone_early_is_rejected() {
        let violation = check(&life(&[read(6.0, false)]), GRACE, &[]).unwrap_err();
        assert!(violation.0.contains("lived until"), "{violation}");
        check(&life(&[read(1.0, false)]), GRACE, &[]).unwrap_err();
    }

    #[test]
    fn a_key_that_outlives_its_lease_is_rejected() {
        let violation = check(&life(&[read(10.2, true)]), GRACE, &[]).unwrap_err();
        assert!(violation.0.contains("still there"), "{violation}");
    }

    #[test]
    fn a_key_that_comes_back_is_rejected() {
        let violation = check(&life(&[read(9.0, false), read(9.5, true)]), GRACE, &[]).unwrap_err();
        assert!(violation.0.contains("came back"), "{violation}");
    }

    #[test]
    fn an_unanswered_renewal_promises_nothing_and_excuses_a_longer_life() {
        let mut life = life(&[read(8.5, false)]);
        life.renewals.push(Renewal {
            began: s(7.0),
            ended: None,
        });
        check(&life, GRACE, &[]).unwrap();
        life.reads = vec![read(13.0, true)];
        check(&life, GRACE, &[]).unwrap();
        life.reads = vec![read(16.5, true)];
        check(&life, GRACE, &[]).unwrap_err();
    }

    #[test]
    fn trouble_excuses_a_longer_life_but_not_a_shorter_one() {
        let trouble = [(s(9.0), s(20.0))];
        check(&life(&[read(21.0, true)]), GRACE, &trouble).unwrap();
        check(&life(&[read(27.1, true)]), GRACE, &trouble).unwrap_err();
        check(&life(&[read(6.0, false)]), GRACE, &trouble).unwrap_err();
        let later = [(s(13.0), s(20.0))];
        check(&life(&[read(12.5, true)]), GRACE, &later).unwrap_err();
    }

    #[test]
    fn a_revoked_lease_promises_nothing_more() {
        let mut life = life(&[read(4.0, false)]);
        check(&life, GRACE, &[]).unwrap_err();
        life.revoked = Some(s(3.5));
        check(&life, GRACE, &[]).unwrap();
    }

    fn deleted(key: &str, revision: i64) -> Event {
        let kv = KeyValue {
            key: key.to_owned().into(),
            mod_revision: revision,
            ..Default::default()
        };
        Event {
            r#type: EventType::Delete.into(),
            kv: Some(kv),
            prev_kv: None,
        }
    }

    #[test]
    fn keys_that_go_together_pass_and_others_are_rejected() {
        let keys = ["b", "a"];
        check_end(
            1,
            &keys,
            &[deleted("a", 7), deleted("b", 7), deleted("c", 8)],
        )
        .unwrap();
        check_end(1, &keys, &[deleted("a", 7), deleted("b", 8)]).unwrap_err();
        check_end(1, &keys, &[deleted("b", 7), deleted("a", 7)]).unwrap_err();
        check_end(1, &keys, &[deleted("a", 7)]).unwrap_err();
    }
}
