//! Golden bytes of every message: a byte that moves breaks a rolling upgrade.

use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::command::level::FIRST_LEVEL;

const A: Counted = Counted::Lease(LeaseId(5));
const B: Counted = Counted::Lease(LeaseId(-6));

/// The message has these bytes, and they are the message.
#[track_caller]
fn pin<T: PartialEq + Debug>(
    message: &T,
    bytes: Bytes,
    read: impl Fn(Bytes) -> Result<T, CodecError>,
    golden: &str,
) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden: String = golden.split_whitespace().collect();
    assert_eq!(hex, golden, "{message:?}");
    assert_eq!(read(bytes.clone()).as_ref(), Ok(message));
    for end in 0..bytes.len() {
        assert!(read(bytes.slice(..end)).is_err(), "cut short at {end}");
    }
    let longer = [bytes.as_ref(), b"\0"].concat();
    assert!(read(longer.into()).is_err());
    let newer = [b"\x02", &bytes[1..]].concat();
    let newer = read(newer.into()).map_err(|error| error.to_string());
    let says =
        "the countdown's message is of format 2, this version knows 1: a newer version wrote it";
    assert_eq!(newer.err().as_deref(), Some(says));
}

fn whole() -> Delta {
    Delta {
        now: LeaderMillis(1_500),
        through: 9,
        copy: 1,
        whole: 2,
        from: 1,
        changes: vec![(A, Some(LeaderMillis(60_000))), (B, None)],
    }
}

#[test]
fn delta_and_its_acknowledgement() {
    pin(
        &whole(),
        delta(FIRST_LEVEL, &whole()),
        read_delta,
        "0101 dc0b 09 01 02 01 02 01 05 01 e0d403 01 faffffffffffffffff01 00",
    );
    let taken = Ack::Taken { copy: 1, upto: 300 };
    pin(&taken, ack(FIRST_LEVEL, taken), read_ack, "0102 01 01 ac02");
    pin(
        &Ack::Again,
        ack(FIRST_LEVEL, Ack::Again),
        read_ack,
        "0102 02",
    );
    let not = Ack::NotFollowing;
    pin(&not, ack(FIRST_LEVEL, not), read_ack, "0102 00");
}

#[test]
fn question_and_its_answer() {
    let renew = Question::Renew(vec![A, B]);
    let ids = "02 01 05 01 faffffffffffffffff01";
    pin(
        &renew,
        question(FIRST_LEVEL, &renew),
        read_question,
        &format!("0103 {ids}"),
    );
    let remaining = Question::Remaining(vec![A, B]);
    let bytes = question(FIRST_LEVEL, &remaining);
    pin(&remaining, bytes, read_question, &format!("0104 {ids}"));
    let answer = vec![Some(Duration::from_secs(60)), None];
    let bytes = times(FIRST_LEVEL, &answer);
    pin(&answer, bytes, read_times, "0105 02 01 e0d403 00");
}

#[test]
fn collect_and_its_pages() {
    pin(&(), collect(FIRST_LEVEL), read_collect, "0106");
    let table = Table {
        leadership: (3, MemberId(0xa1)),
        now: LeaderMillis(1_500),
        through: 9,
        ends: vec![(A, LeaderMillis(60_000)), (B, LeaderMillis(-1))],
    };
    let held = [
        (
            Held::Table(table),
            "0107 02 03 a101 dc0b 09 02 01 05 e0d403 01 faffffffffffffffff01 ffffffffffffffffff01",
        ),
        (Held::Nothing, "0107 01"),
        (Held::NotFollowing, "0107 00"),
    ];
    for (held, golden) in held {
        let pages: Vec<_> = pages(FIRST_LEVEL, held.clone()).collect();
        assert_eq!(pages.len(), 1);
        pin(&held, pages[0].clone(), read_page, golden);
    }
}

#[test]
fn a_large_copy_takes_pages_that_are_all_of_it() {
    let ends: Vec<_> = (0..40_000)
        .map(|id| (Counted::Lease(LeaseId(id)), LeaderMillis(id)))
        .collect();
    let table = Table {
        leadership: (3, MemberId(1)),
        now: LeaderMillis(7),
        through: 9,
        ends: ends.clone(),
    };
    let mut all = Vec::new();
    for page in pages(FIRST_LEVEL, Held::Table(table)) {
        assert!(page.len() < 256 * 1024);
        let Held::Table(page) = read_page(page).unwrap() else {
            panic!("a page of a copy is one");
        };
        assert_eq!((page.now, page.through), (LeaderMillis(7), 9));
        all.extend(page.ends);
    }
    assert_eq!(all, ends);
}

proptest! {
    #[test]
    fn any_bytes_are_no_panic(bytes: Vec<u8>, tag in 0u8..9) {
        let bytes = Bytes::from([&[Format::Countdown.at(FIRST_LEVEL), tag], bytes.as_slice()].concat());
        let _ = read_delta(bytes.clone());
        let _ = read_ack(bytes.clone());
        let _ = read_question(bytes.clone());
        let _ = read_times(bytes.clone());
        let _ = read_page(bytes);
    }
}
