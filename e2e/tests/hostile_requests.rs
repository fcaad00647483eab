//! Requests that are too large, too deep, cut short or senseless: etcd's answer, and a connection that goes on.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{
    compare, delete, delete_to, op, prefix, put, range, range_to, txn,
};
use coord_e2e::cluster::{Cluster, Kind};
use coord_e2e::hostile::any_bytes;
use coord_e2e::hostile::bystander::Bystander;
use coord_e2e::hostile::memory::Bound;
use coord_e2e::hostile::raw::{self, Raw, flag, frame, kind};
use coord_proto::etcd::etcdserverpb as pb;
use pb::compare::{CompareResult, TargetUnion};
use prost::Message;
use tonic::{Code, Request, Status};

const MIB: u64 = 1 << 20;
const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

async fn one() -> Result<(Cluster, Client, u32)> {
    let mut cluster = Cluster::start(Kind::Processes(1)).await?;
    let process = cluster.process_id(0)?;
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    Ok((cluster, client, process))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T, Status>, code: Code, text: &str) {
    let status = answer.expect_err(what);
    assert_eq!((status.code(), status.message()), (code, text), "{what}");
}

/// A put whose encoded request has exactly `bytes`.
fn put_of(bytes: usize) -> pb::PutRequest {
    let mut value = bytes - 20;
    loop {
        let request = pb::PutRequest {
            value: vec![7; value].into(),
            ..put("large", "")
        };
        match bytes - request.encoded_len() {
            0 => return request,
            more => value += more,
        }
    }
}

#[tokio::test]
async fn requests_above_the_limits_are_refused_as_etcd_does() -> Result<()> {
    const REQUEST_MAX: usize = 1_572_864;
    const MESSAGE_MAX: usize = 2_097_152;
    let (_cluster, client, process) = one().await?;
    let bound = Bound::above_now(process, 64 * MIB)?;
    client.put(put_of(REQUEST_MAX)).await?;
    let too_large = "etcdserver: request is too large";
    refused(
        "a byte more",
        client.put(put_of(REQUEST_MAX + 1)).await,
        Code::InvalidArgument,
        too_large,
    );
    refused(
        "all that is received",
        client.put(put_of(MESSAGE_MAX)).await,
        Code::InvalidArgument,
        too_large,
    );
    refused(
        "more than is received",
        client.put(put_of(MESSAGE_MAX + 1)).await,
        Code::ResourceExhausted,
        "grpc: received message larger than max (2097153 vs. 2097152)",
    );
    let many = vec![
        op(put_of(REQUEST_MAX / 2)),
        op(put("b", "")),
        op(put_of(REQUEST_MAX / 2)),
    ];
    refused(
        "in pieces",
        client.txn(txn([], many, [])).await,
        Code::InvalidArgument,
        "etcdserver: duplicate key given in txn request",
    );
    let watch = pb::WatchCreateRequest {
        key: vec![7; 200_000].into(),
        ..Default::default()
    };
    let mut stream = client.watch();
    let refusal = stream.create(watch).await.err().context("it is refused")?;
    ensure!(
        format!("{refusal:#}").contains("grpc: received message larger than max"),
        "{refusal:#}"
    );
    bound.check()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimed_sizes_cost_nothing() -> Result<()> {
    let (cluster, client, process) = one().await?;
    let bystander = Bystander::begin(client).await?;
    let bound = Bound::above_now(process, 192 * MIB)?;
    let begun = |stream: u32, claimed: u32| {
        let message = [&[0], &claimed.to_be_bytes()[..], &[7; 10]].concat();
        [
            raw::open_call(stream, PUT),
            frame(kind::DATA, flag::NONE, stream, &message),
        ]
        .concat()
    };
    let mut raw = Raw::open(&cluster.endpoint(0), &[]).await?;
    raw.send(&begun(1, 100 << 20)).await?;
    let is_answered = loop {
        match raw.next().await? {
            Some((kind::HEADERS, flags, 1, _)) => break flags & flag::END_STREAM != 0,
            Some(_) => {}
            None => break false,
        }
    };
    ensure!(
        is_answered,
        "a message of 100 MiB is refused when it is announced"
    );
    raw.drain();
    for number in 1..2000 {
        raw.send(&begun(1 + 2 * number, 2_000_000)).await?;
    }
    bystander.end().await?;
    // Four gigabytes were claimed.
    bound.check()?;
    Ok(())
}

/// Waits until the server lets `bytes` more be sent, and counts calls that it ended meanwhile.
async fn window(raw: &mut Raw, open: &mut i64, bytes: usize, ended: &mut usize) -> Result<()> {
    let bytes = i64::try_from(bytes)?;
    while *open < bytes {
        match raw.next().await?.context("the connection ended")? {
            (kind::WINDOW_UPDATE, _, 0, more) => {
                let more: [u8; 4] = more.as_slice().try_into()?;
                *open += i64::from(u32::from_be_bytes(more));
            }
            (kind::HEADERS, ..) => *ended += 1,
            _ => {}
        }
    }
    *open -= bytes;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_finished_are_held_within_a_bound() -> Result<()> {
    const CALLS: u32 = 300;
    let (cluster, client, process) = one().await?;
    let bystander = Bystander::begin(client).await?;
    // A connection may hold 128 MiB; buffers have room to grow.
    let bound = Bound::above_now(process, 288 * MIB)?;
    let mut raw = Raw::open(&cluster.endpoint(0), &[]).await?;
    let part = vec![7; 16 * 1024];
    // As RFC 9113 says, before any update.
    let mut open = 65_535;
    let mut refused = 0;
    // Of each request a megabyte comes, 300 MiB in all, and the rest never.
    for number in 0..CALLS {
        let stream = 1 + 2 * number;
        let begin = [&[0], &1_500_000_u32.to_be_bytes()[..]].concat();
        raw.send(&raw::open_call(stream, PUT)).await?;
        window(&mut raw, &mut open, begin.len(), &mut refused).await?;
        raw.send(&frame(kind::DATA, flag::NONE, stream, &begin))
            .await?;
        for _ in 0..64 {
            window(&mut raw, &mut open, part.len(), &mut refused).await?;
            raw.send(&frame(kind::DATA, flag::NONE, stream, &part))
                .await?;
        }
    }
    ensure!(refused > 150, "only {refused} of {CALLS} were refused");
    bystander.end().await?;
    bound.check()?;
    Ok(())
}

#[tokio::test]
async fn what_is_called_gzip_and_is_not_is_refused() -> Result<()> {
    let (_cluster, client, _) = one().await?;
    for encoding in ["gzip", "deflate"] {
        let bomb = Bytes::from_static(&[31, 139, 8, 0, 0, 0, 0, 0, 0, 3]);
        let mut request = Request::new(bomb);
        request
            .metadata_mut()
            .insert("grpc-encoding", encoding.parse()?);
        let answer = any_bytes::call_with(client.channel(), PUT, request).await;
        let status = answer.expect_err("it is no message");
        let expected = match encoding {
            // The flag before the message says that it is not compressed, so its bytes are read as they are.
            "gzip" => Code::Internal,
            _ => Code::Unimplemented,
        };
        assert_eq!(status.code(), expected, "{encoding}: {status}");
        client.put(put("a", "2")).await?;
    }
    Ok(())
}

/// A transaction inside a transaction, `depth` times.
fn nested(depth: usize) -> Vec<u8> {
    let mut request = txn([], [op(put("deep", "x"))], []).encode_to_vec();
    for _ in 0..depth {
        // RequestOp.request_txn is field 4, TxnRequest.success field 2; both are length-delimited.
        for tag in [0x22, 0x12] {
            let mut outer = vec![tag];
            prost::encode_length_delimiter(request.len(), &mut outer).expect("a vector grows");
            outer.append(&mut request);
            request = outer;
        }
    }
    request
}

#[tokio::test]
async fn transactions_beyond_the_limits_are_refused_as_etcd_does() -> Result<()> {
    let (_cluster, client, _) = one().await?;
    let revision = client.revision().await?;
    let puts = |count: usize| -> Vec<pb::RequestOp> {
        (0..count)
            .map(|number| op(put(&format!("t{number}"), "x")))
            .collect()
    };
    let too_many = "etcdserver: too many operations in txn request";
    refused(
        "129 puts",
        client.txn(txn([], puts(129), [])).await,
        Code::InvalidArgument,
        too_many,
    );
    refused(
        "129 failures",
        client.txn(txn([], [], puts(129))).await,
        Code::InvalidArgument,
        too_many,
    );
    let compares = vec![compare("a", CompareResult::Equal, TargetUnion::Version(1)); 129];
    refused(
        "129 compares",
        client.txn(txn(compares, [], [])).await,
        Code::InvalidArgument,
        too_many,
    );
    let twice = "etcdserver: duplicate key given in txn request";
    let ops = [op(put("t", "1")), op(put("t", "2"))];
    refused(
        "a key twice",
        client.txn(txn([], ops, [])).await,
        Code::InvalidArgument,
        twice,
    );
    let ops = [op(delete_to("s", "u")), op(put("t", "2"))];
    refused(
        "a deleted key",
        client.txn(txn([], ops, [])).await,
        Code::InvalidArgument,
        twice,
    );
    for depth in [1000, 10_000] {
        let answer = any_bytes::call(client.channel(), TXN, nested(depth)).await;
        let status = answer.expect_err("nothing decodes it");
        assert_eq!(status.code(), Code::Internal, "{depth}: {status}");
    }
    assert_eq!(client.revision().await?, revision, "nothing was done");
    for depth in [1, 30] {
        any_bytes::call(client.channel(), TXN, nested(depth)).await?;
    }
    assert_eq!(client.revision().await?, revision + 2, "each put once");
    client.txn(txn([], puts(128), [])).await?;
    Ok(())
}

#[tokio::test]
async fn senseless_numbers_and_keys_are_answered_as_etcd_does() -> Result<()> {
    let (_cluster, client, _) = one().await?;
    let no_key = "etcdserver: key is not provided";
    refused(
        "range",
        client.range(range("")).await,
        Code::InvalidArgument,
        no_key,
    );
    refused(
        "put",
        client.put(put("", "x")).await,
        Code::InvalidArgument,
        no_key,
    );
    refused(
        "delete",
        client.delete(delete("")).await,
        Code::InvalidArgument,
        no_key,
    );

    let backwards = client.range(range_to("z", "a")).await?;
    assert_eq!((backwards.count, backwards.kvs.len()), (0, 0));
    assert_eq!(client.delete(delete_to("z", "a")).await?.deleted, 0);
    let negative = pb::RangeRequest {
        limit: i64::MIN,
        revision: i64::MIN,
        ..range("a")
    };
    assert_eq!(client.range(negative).await?.count, 1);

    let future = "etcdserver: mvcc: required revision is a future revision";
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let at = |revision| pb::RangeRequest {
        revision,
        ..range("a")
    };
    refused(
        "a future revision",
        client.range(at(i64::MAX)).await,
        Code::OutOfRange,
        future,
    );
    refused(
        "compact ahead",
        client.compact(i64::MAX).await,
        Code::OutOfRange,
        future,
    );
    for value in ["2", "3"] {
        client.put(put("a", value)).await?;
    }
    client.compact(3).await?;
    refused(
        "a gone revision",
        client.range(at(2)).await,
        Code::OutOfRange,
        compacted,
    );
    refused(
        "compact back",
        client.compact(2).await,
        Code::OutOfRange,
        compacted,
    );
    refused(
        "compact below all",
        client.compact(i64::MIN).await,
        Code::OutOfRange,
        compacted,
    );

    let grant = |ttl, id| pb::LeaseGrantRequest { ttl, id };
    let too_large = "etcdserver: too large lease TTL";
    refused(
        "TTL",
        client.lease_grant(grant(i64::MAX, 0)).await,
        Code::OutOfRange,
        too_large,
    );
    let least = client.lease_grant(grant(i64::MIN, i64::MAX)).await?;
    assert_eq!(
        (least.id, least.ttl),
        (i64::MAX, 2),
        "raised to the least there is"
    );
    client.lease_grant(grant(9_000_000_000, i64::MIN)).await?;
    let unknown = "etcdserver: requested lease not found";
    let revoke = pb::LeaseRevokeRequest { id: -7 };
    refused(
        "revoke",
        client.lease_revoke(revoke).await,
        Code::NotFound,
        unknown,
    );
    let leased = pb::PutRequest {
        lease: -7,
        ..put("a", "x")
    };
    refused("put", client.put(leased).await, Code::NotFound, unknown);
    let ttl = pb::LeaseTimeToLiveRequest { id: -7, keys: true };
    assert_eq!(client.lease_time_to_live(ttl).await?.ttl, -1);
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_and_the_connection_goes_on() -> Result<()> {
    let (cluster, client, _) = one().await?;
    let channel = client.channel();
    for (what, request) in [
        ("a varint without end", vec![0x18, 0x80]),
        (
            "a varint of eleven bytes",
            vec![0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
        ),
        ("a length beyond the end", vec![0x0a, 100, b'x']),
        (
            "a length beyond all",
            vec![0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 127],
        ),
        ("a number where bytes belong", vec![0x08, 1]),
        ("field number zero", vec![0x02, 0]),
        ("a wire type that is none", vec![0x0f]),
        ("a group without end", vec![0x7b]),
    ] {
        let answer = any_bytes::call(channel.clone(), RANGE, request).await;
        let status = answer
            .err()
            .with_context(|| format!("{what} was accepted"))?;
        assert_eq!(status.code(), Code::Internal, "{what}: {status}");
    }
    // Fields that this version does not know are no mistake.
    let mut request = range("a").encode_to_vec();
    request.extend([0xf8, 0x07, 1, 0xfa, 0x07, 3, 1, 2, 3]);
    let answer = any_bytes::call(channel.clone(), RANGE, request).await?;
    assert_eq!(pb::RangeResponse::decode(answer)?.count, 1);
    let sorted = pb::RangeRequest {
        sort_target: 77,
        ..range("a")
    };
    refused(
        "sort",
        client.range(sorted).await,
        Code::InvalidArgument,
        "etcdserver: invalid sort option",
    );
    let alarm = pb::AlarmRequest {
        action: 77,
        ..Default::default()
    };
    client.alarm(alarm).await.ok();

    // All of it over one connection, which a raw one shows: the call after a broken one is answered.
    let mut raw = Raw::open(&cluster.endpoint(0), &[]).await?;
    raw.send(&raw::open_call(1, RANGE)).await?;
    raw.send(&frame(
        kind::DATA,
        flag::END_STREAM,
        1,
        &raw::message(&[0x18, 0x80]),
    ))
    .await?;
    raw.send(&raw::call(3, RANGE, &range("a"))).await?;
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let frame = raw.next().await?.context("it closed")?;
        if let (kind::HEADERS, _, stream, _) = frame
            && !answered.contains(&stream)
        {
            answered.push(stream);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    // A watch stream that breaks says why it ends.
    let broken = any_bytes::call(channel, WATCH, vec![0x0a, 100, b'x']).await;
    let status = broken.expect_err("no message");
    assert_eq!(status.code(), Code::Internal, "{status}");
    assert_eq!(client.range(prefix("a")).await?.count, 1);
    Ok(())
}
