//! Made-up values of what the operator sees: every object there or not, and most often such that they nearly fit.

use coord_operator::crd::{Bootstrap, CoordCluster};
use coord_operator::model::{Ordinal, names};
use coord_operator::observe::{
    Answer, BoundNode, MemberSeen, Membership, NodeState, Observed, PodSeen, Record, SetSeen,
    StorageClassSeen, VolumeSeen, WaitReason, WaitingSeen,
};
use coord_operator::validate::{Desired, ServerImage, validate};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

pub(crate) const NOW: i64 = 10_000;
/// Numbers, and ids to choose from: few, so that they meet.
const NUMBERS: u32 = 6;
const CLUSTERS: [u64; 2] = [0xc1, 0xc2];
const LEADER_INDEX: u64 = 50_000;

/// Everything on one number.
#[derive(Clone, Debug)]
struct Place {
    set: Option<SetSeen>,
    pod: Option<PodSeen>,
    volume: Option<VolumeSeen>,
    answer: Option<Answer>,
    waiting: Option<WaitingSeen>,
    /// Id and whether a learner, if the list has a member here.
    member: Option<(u64, bool)>,
    caught_up: u32,
    sick_since: i64,
    gone_since: i64,
}

fn hash() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just("new".to_owned()), 1 => Just("old".to_owned())]
}

fn cluster_id() -> impl Strategy<Value = u64> {
    prop_oneof![60 => Just(CLUSTERS[0]), 1 => Just(CLUSTERS[1])]
}

/// Ids of number `n`: the present member's, most often, and one that lived there before.
fn member_id(n: Ordinal) -> impl Strategy<Value = u64> {
    prop_oneof![15 => Just(0xa0 + u64::from(n)), 1 => Just(0xb0 + u64::from(n))]
}

fn set() -> impl Strategy<Value = SetSeen> {
    let revision = weighted(0.5, select(vec!["r1".to_owned(), "r2".to_owned()]));
    (hash(), revision, weighted(0.04, Just(()))).prop_map(|(hash, update_revision, deleting)| {
        SetSeen {
            uid: "set".to_owned(),
            resource_version: "1".to_owned(),
            replicas: 1,
            update_revision,
            template_hash: hash,
            image: String::new(),
            deleting: deleting.is_some(),
            trouble: None,
        }
    })
}

fn pod() -> impl Strategy<Value = PodSeen> {
    let since = select(vec![NOW - 500, NOW - 5]);
    (
        hash(),
        // Kubernetes' word on whether it serves is one, the member's own another.
        (weighted(0.9, Just(())), weighted(0.85, Just(()))),
        any::<bool>(),
        weighted(0.05, since),
        weighted(0.2, Just("Broken".to_owned())),
    )
        .prop_map(
            |(template_hash, (running, ready), labelled_voter, deleting_since, trouble)| PodSeen {
                uid: "pod".to_owned(),
                running: running.is_some(),
                ready: ready.is_some(),
                template_hash,
                labelled_voter,
                deleting_since,
                trouble,
                orphan: ready.is_none(),
                revision: Some("r1".to_owned()),
                ..PodSeen::default()
            },
        )
}

fn volume(n: Ordinal) -> impl Strategy<Value = VolumeSeen> {
    let bootstrap = (0..3_i32, Just("token".to_owned()));
    let state = select(vec![NodeState::Ready, NodeState::NotReady, NodeState::Gone]);
    (
        weighted(0.95, cluster_id()),
        (weighted(0.85, member_id(n)), weighted(0.1, member_id(n))),
        weighted(0.3, bootstrap),
        weighted(0.04, Just(())),
        weighted(0.04, Just(())),
        weighted(0.2, state),
        // Too small, as asked for, and a size that was taken back; what it has follows, late or never.
        (
            select(vec![1_u64 << 29, 1 << 30, 1 << 31]),
            weighted(0.8, select(vec![1_u64 << 29, 1 << 30])),
            weighted(0.9, any::<bool>()),
        ),
        weighted(
            0.4,
            select(vec!["n1".to_owned(), "n2".to_owned(), "n3".to_owned()]),
        ),
        // None on one that an older operator made.
        weighted(0.95, Just(names::made_for("demo", ""))),
    )
        .prop_map(
            |(
                cluster_id,
                (member_id, removed_id),
                bootstrap,
                lost,
                deleting,
                state,
                (requested_bytes, capacity_bytes, expands),
                tied_to,
                made_for,
            )| {
                VolumeSeen {
                    uid: "volume".to_owned(),
                    cluster_id,
                    member_id,
                    removed_id,
                    bootstrap: bootstrap.map(|(seed, token)| Bootstrap { seed, token }),
                    made_for,
                    lost: lost.is_some(),
                    deleting: deleting.is_some(),
                    home: state.map(|state| BoundNode {
                        node: "n1".to_owned(),
                        state,
                    }),
                    requested_bytes,
                    capacity_bytes,
                    expands,
                    tied_to,
                    ..VolumeSeen::default()
                }
            },
        )
}

/// The member that a member calls its leader.
#[derive(Clone, Copy, Debug)]
enum Follows {
    Leader,
    Nobody,
    Itself,
}

fn answer(n: Ordinal) -> impl Strategy<Value = Answer> {
    // A leader that follows itself, though another gave the list, is one that was deposed or of another history.
    let leader = prop_oneof![30 => Just(Follows::Leader), 2 => Just(Follows::Nobody), 1 => Just(Follows::Itself)];
    let lag = prop_oneof![15 => Just(0_u64), 1 => Just(900_u64), 1 => Just(40_000_u64)];
    let term = prop_oneof![30 => Just(0_u64), 1 => Just(1_u64)];
    let parts = (cluster_id(), member_id(n), leader, lag, term);
    parts.prop_map(|(cluster_id, member_id, follows, lag, term)| {
        Answer {
            term,
            cluster_id,
            member_id,
            // Filled in with the leader, if there is one.
            leader: match follows {
                Follows::Leader => 1,
                Follows::Nobody => 0,
                Follows::Itself => member_id,
            },
            applied_index: LEADER_INDEX - lag,
            ..Answer::default()
        }
    })
}

fn waiting() -> impl Strategy<Value = WaitingSeen> {
    use WaitReason::{Foreign, NotAdded, Rebuilding, Wiped};
    let reason = select(vec![NotAdded, Wiped, Foreign, Rebuilding]);
    (reason, weighted(0.5, Just("1".to_owned()))).prop_map(|(reason, start)| WaitingSeen {
        reason,
        why: "it waits".to_owned(),
        start,
    })
}

fn place(n: Ordinal) -> impl Strategy<Value = Place> {
    let learner = prop_oneof![9 => Just(false), 1 => Just(true)];
    (
        weighted(0.9, set()),
        weighted(0.9, pod()),
        weighted(0.9, volume(n)),
        (weighted(0.9, answer(n)), waiting()),
        weighted(0.7, (member_id(n), learner)),
        0..4_u32,
        select(vec![NOW - 1_000, NOW - 25, NOW - 5]),
        select(vec![NOW - 1_000, NOW - 5]),
    )
        .prop_map(
            |(set, pod, volume, (answer, waiting), member, caught_up, sick_since, gone_since)| {
                Place {
                    set,
                    pod,
                    volume,
                    waiting: answer.is_none().then_some(waiting),
                    answer,
                    member,
                    caught_up,
                    sick_since,
                    gone_since,
                }
            },
        )
}

pub(crate) fn observed() -> impl Strategy<Value = Observed> {
    let places: Vec<_> = (0..NUMBERS).map(place).collect();
    let bootstrap = (0..3_i32).prop_map(|seed| Bootstrap {
        seed,
        token: "token".to_owned(),
    });
    (
        places,
        weighted(0.8, Just(CLUSTERS[0])),
        weighted(0.8, bootstrap),
        weighted(0.8, (cluster_id(), any::<prop::sample::Index>())),
        weighted(0.03, Just("waiting for an old child".to_owned())),
        any::<bool>(),
        weighted(0.05, any::<bool>()),
        (
            weighted(0.3, Just(())),
            weighted(0.5, Just("n4".to_owned())),
        ),
    )
        .prop_map(
            |(
                mut places,
                recorded,
                bootstrap,
                leads,
                in_the_way,
                expands,
                unmarked,
                (tidy, free),
            )| {
                if tidy.is_some() {
                    places.iter_mut().for_each(tidy_up);
                }
                let mut observed =
                    assemble(places, recorded, bootstrap, leads, in_the_way, expands);
                if !observed
                    .shared_nodes(observed.volumes.keys().copied())
                    .is_empty()
                {
                    observed.free_nodes = free.into_iter().collect();
                }
                // Before there is a cluster, whether or not a seed has been chosen.
                if let Some(has_bootstrap) = unmarked {
                    observed.record.cluster_id = None;
                    observed.record.bootstrap = observed.record.bootstrap.filter(|_| has_bootstrap);
                    observed
                        .volumes
                        .values_mut()
                        .for_each(|v| v.cluster_id = None);
                }
                observed
            },
        )
}

/// Every member runs, follows and has all: else the questions that come late are never asked.
fn tidy_up(place: &mut Place) {
    let Some((id, _)) = place.member else {
        // And a place without a member waits to be added.
        place.answer = None;
        if let Some(volume) = &mut place.volume {
            (volume.member_id, volume.removed_id) = (None, None);
        }
        return;
    };
    let volume = place.volume.get_or_insert_default();
    volume.member_id = Some(id);
    volume.cluster_id = Some(CLUSTERS[0]);
    place.answer = Some(Answer {
        cluster_id: CLUSTERS[0],
        member_id: id,
        leader: 1,
        applied_index: LEADER_INDEX,
        ..Answer::default()
    });
    if let Some(pod) = &mut place.pod {
        (pod.running, pod.deleting_since, pod.trouble) = (true, None, None);
    }
}

fn assemble(
    places: Vec<Place>,
    recorded: Option<u64>,
    bootstrap: Option<Bootstrap>,
    leads: Option<(u64, prop::sample::Index)>,
    in_the_way: Option<String>,
    expands: bool,
) -> Observed {
    let mut observed = Observed {
        record: Record {
            cluster_id: recorded,
            bootstrap,
            server_image: None,
            server_version: None,
        },
        in_the_way: in_the_way.into_iter().collect(),
        storage_class: StorageClassSeen::Found { expands },
        ..Observed::default()
    };
    let members: Vec<MemberSeen> = (0..)
        .zip(&places)
        .filter_map(|(n, place)| {
            let (id, is_learner) = place.member?;
            Some(MemberSeen {
                id,
                ordinal: Some(n),
                name: format!("demo-{n}"),
                is_learner,
            })
        })
        .collect();
    let voters: Vec<&MemberSeen> = members.iter().filter(|m| !m.is_learner).collect();
    let leader = leads
        .filter(|_| !voters.is_empty())
        .map(|(cluster_id, index)| (cluster_id, index.get(&voters).id));
    for (n, place) in (0..).zip(places) {
        let is_here = place.member.map(|(id, _)| id);
        observed.sets.extend(place.set.map(|set| (n, set)));
        observed.pods.extend(place.pod.map(|pod| (n, pod)));
        observed
            .volumes
            .extend(place.volume.map(|volume| (n, volume)));
        let mut answer = place.answer;
        if let Some((cluster_id, leader)) = leader {
            if is_here == Some(leader) {
                // The list is its own word.
                answer = Some(Answer {
                    cluster_id,
                    member_id: leader,
                    leader: 1,
                    applied_index: LEADER_INDEX,
                    ..Answer::default()
                });
            }
            if let Some(answer) = answer.as_mut().filter(|a| a.leader == 1) {
                answer.leader = leader;
            }
        }
        let waiting = place.waiting.filter(|_| answer.is_none());
        observed.waiting.extend(waiting.map(|waiting| (n, waiting)));
        observed.answers.extend(answer.map(|answer| (n, answer)));
        if let Some(id) = is_here {
            observed.caught_up.insert(id, place.caught_up);
            observed.sick_since.insert(id, place.sick_since);
            observed.unheard_since.insert(id, place.sick_since);
        }
        observed.down_since.insert(n, place.sick_since);
        observed.home_gone_since.insert(n, place.gone_since);
    }
    observed.membership = leader.map(|(cluster_id, leader)| Membership {
        cluster_id,
        leader,
        term: 0,
        leader_index: LEADER_INDEX,
        members,
    });
    if observed.membership.as_ref().map(|m| m.cluster_id) != recorded {
        // A list is only taken from the recorded cluster.
        observed.membership = observed.membership.filter(|_| recorded.is_none());
    }
    observed
}

pub(crate) fn desired(replicas: i32, wait: bool, paused: bool) -> Desired {
    let spec = json!({
        "replicas": replicas, "image": "server:1", "storage": { "size": "1Gi" }, "paused": paused,
        "repair": { "lostNode": if wait { "Wait" } else { "Replace" } },
    });
    let spec = serde_json::from_value(spec).expect("a spec");
    let images = ServerImage {
        repository: String::new(),
        tag: String::new(),
    };
    let mut desired = validate(
        &CoordCluster::new("demo", spec),
        &Observed::default(),
        &images,
    )
    .expect("these specs are valid");
    desired.template_hash = "new".to_owned();
    desired
}
