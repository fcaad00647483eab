//! Clients that read, write, swap and delete single keys: what linearizability is judged by.
//!
//! They all call at the same beats and rest between: few calls, and yet most of them meet others on the same keys.

use std::time::Duration;

use coord_e2e::history::{Reply, Request};
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Load, Seat, pause};

/// How much later than the beat a client begins, on average.
const LATE: Duration = Duration::from_millis(1);
/// Calls at a beat, at most.
const CALLS_MAX: u32 = 4;
/// Seconds after which keys change, so that the search for an order stays short.
const EPOCH_SECONDS: u64 = 20;

pub(super) async fn run(seat: Seat, number: usize, load: Load, mut random: StdRng) {
    let history = seat.observed.history.clone();
    let mut recorder = history.recorder(number, seat.client(number));
    let mut written = 0;
    let mut known = (String::new(), 0);
    let mut left = 0;
    while !seat.observed.is_quiet() {
        if left == 0 {
            left = random.random_range(1..=CALLS_MAX);
            tokio::time::sleep(load.until_beat(history.now())).await;
            pause(&mut random, LATE).await;
        }
        left -= 1;
        let epoch = history.now().as_secs() / EPOCH_SECONDS;
        let key = format!("k/{epoch}/{}", random.random_range(0..load.keys));
        written += 1;
        let value = format!("{number}-{written}");
        let request = match random.random_range(0..100) {
            0..30 => Request::Get {
                key,
                is_serializable: false,
            },
            30..40 => Request::Get {
                key,
                is_serializable: true,
            },
            40..70 => Request::Put { key, value },
            70..78 => Request::Delete { key },
            _ => Request::Swap {
                expected: if known.0 == key { known.1 } else { 0 },
                key,
                value,
            },
        };
        let key = request.key().to_owned();
        if let Ok((_, Reply::Found(found) | Reply::NotSwapped(found))) =
            recorder.call(request).await
        {
            known = (key, found.map_or(0, |version| version.mod_revision));
        }
    }
}
