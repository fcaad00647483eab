//! Floods of HTTP/2 frames: the connection ends, whatever they are, and nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::request::put;
use coord_e2e::cluster::{Cluster, Kind};
use coord_e2e::hostile::bystander::Bystander;
use coord_e2e::hostile::memory::Bound;
use coord_e2e::hostile::raw::{self, End, Raw, flag, frame, header, kind};

const MIB: u64 = 1 << 20;
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// Bytes taken by a server that has not noticed a flood.
const FLOOD_BYTES_MAX: usize = 64 << 20;

struct Target {
    cluster: Cluster,
    bystander: Bystander,
    bound: Bound,
}

impl Target {
    async fn begin() -> Result<Self> {
        Self::that_may_grow(48 * MIB).await
    }

    async fn that_may_grow(bytes: u64) -> Result<Self> {
        let mut cluster = Cluster::start(Kind::Processes(1)).await?;
        let process = cluster.process_id(0)?;
        let bystander = Bystander::begin(cluster.client()?).await?;
        let bound = Bound::above_now(process, bytes)?;
        Ok(Self {
            cluster,
            bystander,
            bound,
        })
    }

    async fn open(&self) -> Result<Raw> {
        Raw::open(&self.cluster.endpoint(0), &[]).await
    }

    async fn end(self) -> Result<()> {
        self.bystander.end().await?;
        self.bound.check()?;
        Ok(())
    }
}

/// Headers without an end, in frames of `frame_bytes`.
fn endless_head(frame_bytes: usize) -> Vec<u8> {
    let name = header("x", &vec![b'y'; frame_bytes - 5]);
    frame(kind::CONTINUATION, flag::NONE, 1, &name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_ask_nothing_end_the_connection_that_sends_too_many() -> Result<()> {
    let target = Target::begin().await?;
    let floods = [
        ("ping", frame(kind::PING, flag::NONE, 0, &[7; 8])),
        ("settings", raw::settings(&[])),
        (
            "window update",
            frame(kind::WINDOW_UPDATE, flag::NONE, 0, &[0, 0, 0, 1]),
        ),
        (
            "priority",
            frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 0, 1]),
        ),
        ("unknown kind", frame(77, flag::NONE, 0, &[7; 8])),
    ];
    for (name, bytes) in floods {
        let raw = target.open().await?;
        raw.flood(&bytes.repeat(1000), FLOOD_BYTES_MAX)
            .await
            .with_context(|| format!("a flood of {name} frames"))?;
    }
    target.end().await
}

/// A reset ends a call that is counted like any other, so resets may come as fast as calls do (CVE-2023-44487): what they
/// cost is a turn like anybody's, and no memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_reset_as_soon_as_they_are_made_cost_others_their_turn_and_no_more()
-> Result<()> {
    const CALLS_EACH: u32 = 10_000;
    // A development build on a busy machine takes a while over them all; for ever is what is wrong.
    const LONGEST: Duration = Duration::from_secs(10);
    // Made before, so that it is the member that is kept busy, not this process.
    let calls = (1..CALLS_EACH * 2).step_by(2).flat_map(|stream| {
        let reset = frame(kind::RST_STREAM, flag::NONE, stream, &[0, 0, 0, 8]);
        [raw::call(stream, PUT, &put("reset", "value")), reset]
    });
    let calls: Arc<[u8]> = calls.collect::<Vec<_>>().concat().into();
    let target = Target::that_may_grow(96 * MIB).await?;
    let mut floods = Vec::new();
    for _ in 0..4 {
        let mut raw = target.open().await?;
        raw.drain();
        let calls = calls.clone();
        // It may also be ended; then it costs nothing more.
        floods.push(tokio::spawn(async move { raw.send(&calls).await.is_ok() }));
    }
    for flood in floods {
        flood.await?;
    }
    let Target {
        bystander, bound, ..
    } = target;
    let served = bystander.end().await?;
    ensure!(served.longest < LONGEST, "{served:?}");
    bound.check()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_of_nothing_end_their_connection() -> Result<()> {
    let target = Target::begin().await?;
    let mut raw = target.open().await?;
    raw.send(&raw::call(1, PUT, &put("reset", "value"))).await?;
    let reset = frame(kind::RST_STREAM, flag::NONE, 1, &[0, 0, 0, 8]);
    raw.flood(&reset.repeat(1000), FLOOD_BYTES_MAX).await?;
    target.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_too_many_frames_ends_its_connection() -> Result<()> {
    let target = Target::begin().await?;
    for frame_bytes in [6, 1000, 16_000] {
        let mut raw = target.open().await?;
        let begin = frame(kind::HEADERS, flag::NONE, 1, &raw::call_head(PUT));
        raw.send(&begin).await?;
        let end = raw
            .flood(&endless_head(frame_bytes), FLOOD_BYTES_MAX)
            .await?;
        println!("in frames of {frame_bytes} bytes: {end:?}");
    }
    target.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_above_the_limit_is_refused_and_far_above_it_ends_the_connection() -> Result<()> {
    let target = Target::begin().await?;
    let mut raw = target.open().await?;
    // Two frames of 16 KiB: above the limit, and a whole head.
    let first = [raw::call_head(PUT), header("x", &[b'y'; 15_000])].concat();
    let second = header("z", &[b'y'; 15_000]);
    let head = [
        frame(kind::HEADERS, flag::END_STREAM, 1, &first),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, &second),
    ];
    raw.send(&head.concat()).await?;
    let is_refused = loop {
        match raw.next().await? {
            Some((kind::HEADERS | kind::RST_STREAM, _, 1, _)) => break true,
            Some(_) => {}
            None => break false,
        }
    };
    ensure!(is_refused, "the call is refused, not its connection");

    // A million headers of one and the same name, as small as they can be.
    let mut raw = target.open().await?;
    let small = header("x", b"").repeat(4000);
    raw.send(&frame(kind::HEADERS, flag::NONE, 1, &raw::call_head(PUT)))
        .await?;
    let end = raw
        .flood(
            &frame(kind::CONTINUATION, flag::NONE, 1, &small),
            FLOOD_BYTES_MAX,
        )
        .await?;
    println!("a million headers: {end:?}");
    target.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_carries_nothing_ends_its_connection() -> Result<()> {
    let target = Target::begin().await?;
    let mut raw = target.open().await?;
    raw.send(&raw::open_call(1, WATCH)).await?;
    raw.flood(
        &frame(kind::DATA, flag::NONE, 1, &[]).repeat(1000),
        FLOOD_BYTES_MAX,
    )
    .await?;
    target.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_a_connection_may_have_are_refused() -> Result<()> {
    // Four thousand open streams, each with its task and its buffer.
    let target = Target::that_may_grow(256 * MIB).await?;
    let mut raw = target.open().await?;
    raw.drain();
    // h2 closes a connection that goes on against the limit it was told.
    let mut is_open = true;
    for stream in (1..40_000).step_by(2) {
        if raw.send(&raw::open_call(stream, WATCH)).await.is_err() {
            is_open = false;
            break;
        }
    }
    if !is_open {
        let end = raw.end().await?;
        ensure!(end != End::GoAway(0), "{end:?}");
    }
    target.end().await
}
