//! Strangers at the peers' port: refused and counted, and nothing of the cluster changes.

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::request::put;
use coord_e2e::clients::http;
use coord_e2e::cluster::{Cluster, Kind, eventually};
use coord_e2e::hostile::bystander::Bystander;
use coord_e2e::hostile::memory::Bound;
use coord_e2e::hostile::raw::{End, Raw, flag, frame, kind};
use coord_proto::peer as wire;
use futures::future::try_join_all;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use wire::peer_client::PeerClient;

/// Where a stranger comes from: not where the members do.
const STRANGER: &str = "127.9.9.9";
const MIB: u64 = 1 << 20;

/// The identity that a caller claims.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    cluster: u64,
    from: u64,
    to: u64,
    incarnation: u64,
}

impl Stamp {
    fn on<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let fields = [
            ("coord-cluster", self.cluster),
            ("coord-from", self.from),
            ("coord-to", self.to),
            ("coord-incarnation", self.incarnation),
            ("coord-level", 1),
        ];
        for (name, value) in fields {
            let value = format!("{value:x}").parse().expect("digits are ASCII");
            request.metadata_mut().insert(name, value);
        }
        request
    }
}

/// The facts that must not change: term, leader, revision.
#[derive(Debug, PartialEq, Eq)]
struct Standing(u64, u64, i64);

async fn standing(cluster: &Cluster, index: usize) -> Result<Standing> {
    let status = cluster.client_of(index)?.status().await?;
    let header = status.header.context("a header")?;
    Ok(Standing(status.raft_term, status.leader, header.revision))
}

async fn refusals(cluster: &Cluster, index: usize) -> Result<u64> {
    let page = http::request("GET", &cluster.endpoint(index), "/metrics").await?;
    let name = "\ncoord_network_peer_calls_refused_total ";
    let (_, rest) = page.text.split_once(name).context("it is counted")?;
    Ok(rest.lines().next().context("a value")?.trim().parse()?)
}

fn vote(term: u64) -> Option<wire::VoteState> {
    Some(wire::VoteState {
        term,
        leader: 7,
        committed: false,
    })
}

async fn connect(endpoint: &str) -> Result<PeerClient<Channel>> {
    let channel = Endpoint::from_shared(endpoint.to_owned())?
        .connect()
        .await?;
    Ok(PeerClient::new(channel).max_encoding_message_size(usize::MAX))
}

/// The first answer of a stream of one request.
async fn append(
    peer: &mut PeerClient<Channel>,
    stamp: Stamp,
    message: wire::AppendRequest,
) -> Result<Option<wire::AppendResponse>, Status> {
    let mut answers = peer
        .append(stamp.on(tokio_stream::once(message)))
        .await?
        .into_inner();
    answers.message().await
}

async fn forward(
    peer: &mut PeerClient<Channel>,
    stamp: Stamp,
    ask: Option<wire::forward_request::Ask>,
) -> Result<Option<wire::ForwardResponse>, Status> {
    let message = wire::ForwardRequest { number: 1, ask };
    let mut answers = peer
        .forward(stamp.on(tokio_stream::once(message)))
        .await?
        .into_inner();
    answers.message().await
}

fn envelope(bytes: Vec<u8>) -> Option<wire::forward_request::Ask> {
    Some(wire::forward_request::Ask::Proposals(wire::Proposals {
        term: 1,
        leader: 7,
        envelope: bytes.into(),
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_strangers_are_refused_and_counted() -> Result<()> {
    let mut cluster = Cluster::start(Kind::Processes(3)).await?;
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    let leader = cluster.leader().await?;
    let header = cluster.client_of(leader)?.status().await?.header;
    let header = header.context("a header")?;
    let members = client.members().await?;
    let other = members
        .iter()
        .find(|member| member.id != header.member_id)
        .context("another member")?;
    let right = Stamp {
        cluster: header.cluster_id,
        from: 77,
        to: header.member_id,
        incarnation: 77,
    };
    let process = cluster.process_id(leader)?;
    let bound = Bound::above_now(process, 128 * MIB)?;
    let before = standing(&cluster, leader).await?;
    let counted = refusals(&cluster, leader).await?;
    let mut peer = connect(&cluster.peer_endpoint(leader)).await?;

    let wrong = [
        (
            "another cluster",
            Stamp {
                cluster: 1,
                ..right
            },
            "it is for cluster",
        ),
        (
            "another member",
            Stamp { to: 1, ..right },
            "it is for member",
        ),
        (
            "itself",
            Stamp {
                from: right.to,
                ..right
            },
            "which is this one",
        ),
        (
            "a member with another directory",
            Stamp {
                from: other.id,
                ..right
            },
            "came back with another data directory",
        ),
    ];
    let mut refused = 0;
    for (who, stamp, why) in wrong {
        let message = wire::VoteRequest {
            vote: vote(before.0 + 100),
            ..Default::default()
        };
        let status = peer.vote(stamp.on(message)).await.expect_err(who);
        assert_eq!(status.code(), Code::FailedPrecondition, "{who}");
        assert!(status.message().contains(why), "{who}: {status}");
        refused += 1;
    }
    let unstamped = peer.confirm(wire::ConfirmRequest::default()).await;
    let status = unstamped.expect_err("it does not say who it is");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let join = wire::JoinRequest {
        token: "of another cluster".to_owned(),
        ..Default::default()
    };
    let status = peer.join(join).await.expect_err("another token");
    assert_eq!(status.code(), Code::PermissionDenied);
    refused += 2;

    // Messages without what they must have.
    let status = peer.vote(right.on(wire::VoteRequest::default())).await;
    assert_eq!(status.expect_err("no vote").code(), Code::InvalidArgument);
    let change = wire::ChangeRequest {
        kind: 77,
        ..Default::default()
    };
    let status = peer.change(right.on(change)).await;
    assert_eq!(status.expect_err("no change").code(), Code::InvalidArgument);
    assert_eq!(
        append(&mut peer, right, wire::AppendRequest::default()).await?,
        None
    );
    for (what, ask) in [
        ("nothing", None),
        ("no envelope", envelope(vec![7; 100])),
        ("an empty one", envelope(Vec::new())),
    ] {
        let status = forward(&mut peer, right, ask).await.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        refused += 1;
    }
    refused += 3;

    // An old leader, and one whose entries would leave a gap.
    let old = wire::AppendRequest {
        number: 1,
        vote: vote(0),
        ..Default::default()
    };
    let answer = append(&mut peer, right, old).await?;
    let result = answer.and_then(|answer| answer.result);
    ensure!(
        matches!(result, Some(wire::append_response::Result::HigherVote(_))),
        "{result:?}"
    );
    // More than a message may have.
    let answer = forward(&mut peer, right, envelope(vec![7; 17 << 20])).await;
    ensure!(answer.is_err(), "17 MiB were taken");

    let now = refusals(&cluster, leader).await?;
    ensure!(now >= counted + refused, "{counted}, {refused} more, {now}");
    assert_eq!(standing(&cluster, leader).await?, before);
    client.put(put("a", "2")).await?;
    bound.check()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_many_connections_keeps_no_member_out() -> Result<()> {
    let mut cluster = Cluster::start(Kind::Processes(3)).await?;
    // Of the leader, because a follower is killed.
    let leader = cluster.leader().await?;
    let bystander = Bystander::begin(cluster.client_of(leader)?).await?;
    let before = standing(&cluster, leader).await?;
    // As an HTTP/2 client that says what it must, and as one that says nothing.
    let mut kept = Vec::new();
    for index in 0..cluster.len() {
        let endpoint = cluster.peer_endpoint(index);
        for number in 0..300 {
            let mut raw = Raw::connect_from(STRANGER, &endpoint).await?;
            if number % 2 == 0 {
                let greeting = [
                    coord_e2e::hostile::raw::PREFACE,
                    &coord_e2e::hostile::raw::settings(&[]),
                ];
                // Those above the limit are closed at once.
                let _ = raw.send(&greeting.concat()).await;
            }
            raw.drain();
            kept.push(raw);
        }
    }
    let follower = cluster.follower().await?;
    cluster.kill(follower).await?;
    cluster.restart(follower).await?;
    eventually("the restarted member to follow", || async {
        let client = cluster.client_of(follower)?;
        let status = client.status().await?;
        ensure!(status.leader == before.1, "another leader");
        client.put(put("after", "1")).await?;
        Ok(())
    })
    .await?;
    // None of them is kept for long.
    try_join_all(kept.into_iter().map(Raw::end)).await?;
    bystander.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_floods_at_the_peers_port_end_their_connections() -> Result<()> {
    let cluster = Cluster::start(Kind::Processes(3)).await?;
    let bystander = Bystander::begin(cluster.client()?).await?;
    let leader = cluster.leader().await?;
    let before = standing(&cluster, leader).await?;
    let endpoint = cluster.peer_endpoint(leader);
    let mut raw = Raw::connect(&endpoint).await?;
    raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    raw.end().await?;
    let noise: Vec<u8> = (0..100_000_u32).map(|at| (at * 31 % 251) as u8).collect();
    let mut raw = Raw::connect(&endpoint).await?;
    raw.send(&noise).await.ok();
    raw.end().await?;
    let raw = Raw::open(&endpoint, &[]).await?;
    let pings = frame(kind::PING, flag::NONE, 0, &[7; 8]).repeat(1000);
    let end = raw.flood(&pings, 64 << 20).await?;
    ensure!(matches!(end, End::Closed | End::GoAway(_)), "{end:?}");
    let Standing(term, named, _) = standing(&cluster, leader).await?;
    assert_eq!((term, named), (before.0, before.1));
    bystander.end().await?;
    Ok(())
}
