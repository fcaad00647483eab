//! Watchers that resume where they were when their stream or their member ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use coord_e2e::check::watch::Seen;
use coord_e2e::clients::etcd::request::prefix_end;
use coord_e2e::clients::etcd::{Client, Watch};
use coord_proto::etcd::etcdserverpb as pb;
use pb::watch_create_request::FilterType;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Load, Seat, Watched, lock, pause};

/// How long a stream may say nothing, although progress is asked for, before another member is tried.
const SILENCE: Duration = Duration::from_secs(4);
/// How often progress is asked for.
const ASK: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(300);

/// The request of the watcher of everything: every event from the first on.
pub(super) fn whole() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: 1,
        ..Default::default()
    }
}

/// Sees every event from the first on.
pub(super) async fn log(seat: Seat) {
    let observed = seat.observed.clone();
    let mut following = Following::new(seat, whole(), 0);
    loop {
        match following.next().await {
            Told::Response(response) => {
                lock(&observed.whole).responses.push(response);
                observed
                    .log_through
                    .store(following.next - 1, Ordering::Relaxed);
            }
            Told::Compacted(oldest) => {
                observed.wrong(format!(
                    "the watcher of everything needs revision {}, but {oldest} is the oldest, although nobody \
                     compacts beyond it",
                    following.next
                ));
                return;
            }
        }
    }
}

/// One watcher after the other, of random ranges.
pub(super) async fn run(seat: Seat, load: Load, mut random: StdRng) {
    while !seat.observed.is_quiet() {
        let request = draw(&mut random, load, seat.observed.log_through());
        let first = random.random_range(0..seat.members.len());
        let asked = request.start_revision;
        let mut following = Following::new(seat.clone(), request.clone(), first);
        let mut watched = Watched {
            seen: Seen {
                request,
                start: asked,
                responses: Vec::new(),
            },
            compacted: Vec::new(),
        };
        let is_slow = random.random_bool(0.3);
        let lives = Duration::from_secs_f64(random.random_range(2.0..40.0));
        let lived = tokio::time::timeout(lives, async {
            loop {
                match following.next().await {
                    Told::Response(response) => {
                        watched.seen.responses.push(response);
                        watched.seen.start = following.start;
                        watched.compacted.push(seat.observed.compacted());
                    }
                    // It must begin anew, as a client does.
                    Told::Compacted(_) => return,
                }
                if is_slow {
                    pause(&mut random, Duration::from_secs(1)).await;
                }
            }
        });
        // Over by time, or compacted away.
        let _ = lived.await;
        lock(&seat.observed.watched).push(watched);
    }
}

fn draw(random: &mut StdRng, load: Load, through: i64) -> pb::WatchCreateRequest {
    let mut request = pb::WatchCreateRequest {
        prev_kv: random.random_bool(0.4),
        progress_notify: random.random_bool(0.5),
        ..Default::default()
    };
    match random.random_range(0..3) {
        0 => {
            request.key = vec![0].into();
            request.range_end = vec![0].into();
        }
        1 => {
            request.key = "k/".into();
            request.range_end = prefix_end("k/").into();
        }
        _ => {
            let epoch = random.random_range(0..8);
            let key = format!("k/{epoch}/{}", random.random_range(0..load.keys));
            request.key = key.into();
        }
    }
    if random.random_bool(0.5) {
        request.start_revision = random.random_range(1..=through + 2);
    }
    match random.random_range(0..6) {
        0 => request.filters = vec![FilterType::Noput.into()],
        1 => request.filters = vec![FilterType::Nodelete.into()],
        _ => {}
    }
    request
}

enum Told {
    /// Events, or progress.
    Response(pb::WatchResponse),
    /// The next revision that it needs is gone; this is the oldest there is.
    Compacted(i64),
}

/// A watcher across streams.
struct Following {
    clients: Vec<Client>,
    place: usize,
    request: pb::WatchCreateRequest,
    stream: Option<Watch>,
    /// The first revision it is owed.
    start: i64,
    /// The revision to resume from; 0 before the first answer of a watcher from now on.
    next: i64,
}

impl Following {
    fn new(seat: Seat, request: pb::WatchCreateRequest, first: usize) -> Self {
        let clients = (0..seat.members.len()).map(|member| seat.client(member));
        Self {
            clients: clients.collect(),
            place: first,
            start: request.start_revision,
            next: request.start_revision,
            request,
            stream: None,
        }
    }

    async fn next(&mut self) -> Told {
        loop {
            let Some(stream) = &mut self.stream else {
                if let Some(told) = self.open().await {
                    return told;
                }
                continue;
            };
            let mut heard = stream.within(ASK).await;
            if matches!(heard, Ok(None)) {
                stream.request_progress();
                heard = stream.within(SILENCE).await;
            }
            let Ok(Some(response)) = heard else {
                self.away().await;
                continue;
            };
            if response.canceled {
                if response.compact_revision > 0 {
                    return Told::Compacted(response.compact_revision);
                }
                self.away().await;
                continue;
            }
            let header = response.header.as_ref().map_or(0, |header| header.revision);
            let last = response.events.last().and_then(|event| event.kv.as_ref());
            self.next = self.next.max(match last {
                Some(kv) => kv.mod_revision + 1,
                None => header + 1,
            });
            return Told::Response(response);
        }
    }

    async fn open(&mut self) -> Option<Told> {
        let place = self.place % self.clients.len();
        let mut stream = self.clients[place].watch();
        let request = pb::WatchCreateRequest {
            start_revision: self.next,
            ..self.request.clone()
        };
        match tokio::time::timeout(SILENCE, stream.create(request)).await {
            Ok(Ok(answer)) if answer.canceled && answer.compact_revision > 0 => {
                return Some(Told::Compacted(answer.compact_revision));
            }
            Ok(Ok(answer)) if !answer.canceled => {
                if self.next == 0 {
                    self.next = answer.header.map_or(0, |header| header.revision) + 1;
                    self.start = self.next;
                }
                self.stream = Some(stream);
            }
            _ => self.away().await,
        }
        None
    }

    /// Tries another member after a moment.
    async fn away(&mut self) {
        self.stream = None;
        self.place += 1;
        tokio::time::sleep(AGAIN).await;
    }
}
