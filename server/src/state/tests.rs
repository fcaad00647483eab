//! What is easier said in code than in a script; the scripts are in `server/tests`.

use bytes::Bytes;

use super::*;
use crate::command::*;

struct Log {
    index: u64,
}

impl Log {
    fn apply(&mut self, state: &mut State, command: Command) -> Outcome {
        self.index += 1;
        let at = LogPosition {
            term: 1,
            leader: MemberId(1),
            index: self.index,
        };
        let envelope = Envelope {
            feature_level: FEATURE_LEVEL,
            leader_time: UnixMillis(self.index),
            proposals: vec![Proposal {
                origin: MemberId(1),
                run: 1,
                sequence: self.index,
                command,
            }],
        };
        let mut applied = state.apply(at, &envelope).unwrap();
        applied.outcomes.remove(0).1
    }
}

fn put(key: &str, value: &str) -> Command {
    Command::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: PutValue::Set(Bytes::copy_from_slice(value.as_bytes())),
        lease: PutLease::Set(None),
        prev_kv: true,
    })
}

fn all(revision: Option<u64>) -> Query {
    Query::Range(Range {
        keys: Keys::Range {
            start: Bytes::from_static(b"\0"),
            end: None,
        },
        revision: revision.map(Revision),
        limit: None,
        sort: (SortTarget::Key, Order::Ascending),
        keys_only: false,
        count_only: false,
        filter: RangeFilter::default(),
    })
}

#[tokio::test]
async fn state_is_the_same_after_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log { index: 0 };
    let before = {
        let mut state = State::open(dir.path()).unwrap();
        assert_eq!(state.revision(), Revision(1));
        for n in 0..1000 {
            log.apply(
                &mut state,
                put(&format!("key{}", n % 300), &format!("value{n}")),
            );
        }
        let durable = state.persist().await.unwrap();
        assert_eq!(durable, state.applied());
        assert_eq!(durable.unwrap().index, 1000);
        [all(None), all(Some(500))].map(|query| state.answer(&query).unwrap())
    };
    let state = State::open(dir.path()).unwrap();
    assert_eq!(state.revision(), Revision(1001));
    let after = [all(None), all(Some(500))].map(|query| state.answer(&query).unwrap());
    assert_eq!(before, after);
}
