//! Clients that read, write, swap and delete single keys: what linearizability is judged by.

use coord_e2e::history::{Reply, Request};
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Load, Seat, pause};

/// Keys change after so many seconds, so that the search for an order stays short.
const EPOCH_SECONDS: u64 = 20;

pub(super) async fn run(seat: Seat, number: usize, load: Load, mut random: StdRng) {
    let history = seat.observed.history.clone();
    let mut recorder = history.recorder(number, seat.client(number));
    let mut written = 0;
    let mut known = (String::new(), 0);
    while !seat.observed.is_quiet() {
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
        pause(&mut random, load.pause).await;
    }
}
