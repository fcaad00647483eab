//! Whatever the operator sees, reachable or not, a plan keeps what it must keep.
//!
//! `plan_properties` walks through histories of a model; here every value of [`Observed`] is made up, but for what
//! `observe` itself guarantees: a member list comes from a leader that answers. `PROPTEST_CASES=1000000` looks longer.

use coord_operator::crd::{Bootstrap, CoordCluster};
use coord_operator::model::{Ordinal, quorum};
use coord_operator::observe::{
    Answer, Home, HomeState, MemberSeen, Membership, Observed, PodSeen, Record, SetSeen,
    StorageClassSeen, VolumeSeen, WaitReason, WaitingSeen,
};
use coord_operator::plan::{Plan, Step, plan};
use coord_operator::validate::{Desired, ServerImage, validate};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use std::collections::BTreeMap;

const NOW: i64 = 10_000;
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
                revision: Some("r1".to_owned()),
                ..PodSeen::default()
            },
        )
}

fn volume(n: Ordinal) -> impl Strategy<Value = VolumeSeen> {
    let bootstrap = (0..3_i32, Just("token".to_owned()));
    let state = select(vec![HomeState::Ready, HomeState::NotReady, HomeState::Gone]);
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
            )| {
                VolumeSeen {
                    uid: "volume".to_owned(),
                    cluster_id,
                    member_id,
                    removed_id,
                    bootstrap: bootstrap.map(|(seed, token)| Bootstrap { seed, token }),
                    lost: lost.is_some(),
                    deleting: deleting.is_some(),
                    home: state.map(|state| Home {
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

/// Whom a member calls its leader.
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

fn observed() -> impl Strategy<Value = Observed> {
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

/// Whoever is a member runs, follows and has all: else the questions that come late are never asked.
fn tidy_up(place: &mut Place) {
    let Some((id, _)) = place.member else {
        // And whoever is none waits to be added.
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

fn desired(replicas: i32, wait: bool, paused: bool) -> Desired {
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

/// What must hold of any plan. Said again in other words than the planner's.
fn check(desired: &Desired, observed: &Observed, plan: &Plan) -> Result<(), TestCaseError> {
    if desired.paused || !observed.in_the_way.is_empty() {
        prop_assert_eq!(&plan.step, &Step::Wait);
        prop_assert!(plan.children.is_none());
        return Ok(());
    }
    let recorded = observed.record.cluster_id;
    let list = observed
        .membership
        .as_ref()
        .filter(|m| recorded == Some(m.cluster_id));
    check_children(observed, list, plan)?;
    check_growth(desired, observed, plan)?;
    if plan.step.is_destructive() {
        prop_assert!(
            observed.contests_the_list().is_none(),
            "something is taken on the word of a list that is contested"
        );
    }
    let healthy_but = |id: u64| {
        let voters = list.into_iter().flat_map(Membership::voters);
        voters
            .filter(|m| m.id != id && observed.is_healthy(m))
            .count()
    };
    let voters = list.map_or(0, |m| m.voters().count());
    let in_list = |n: Ordinal| list.and_then(|m| m.at(n));
    match &plan.step {
        Step::Done | Step::Wait | Step::Stall => {}
        Step::Bootstrap { ordinal, start } => {
            prop_assert!(recorded.is_none(), "a second cluster is formed");
            prop_assert!(observed.volumes.values().all(|v| v.cluster_id.is_none()));
            let waiting = &observed.waiting[ordinal];
            prop_assert_eq!(waiting.start.as_ref(), Some(start));
        }
        Step::MarkRemoved {
            ordinal, member_id, ..
        } => {
            let list = list.expect("only with a confirmed list");
            let member = list.at(*ordinal).expect("in the list");
            let volume = &observed.volumes[ordinal];
            prop_assert!(!volume.deleting);
            match member_id {
                Some(id) => prop_assert_eq!(*id, member.id),
                None => prop_assert_eq!(volume.removed_id, Some(member.id)),
            }
        }
        Step::RecordBootstrap { .. } => {
            prop_assert!(recorded.is_none() && observed.record.bootstrap.is_none());
            prop_assert!(
                observed.volumes.values().all(|v| v.cluster_id.is_none()),
                "a second bootstrap"
            );
        }
        Step::RecordCluster { cluster_id } => {
            prop_assert!(recorded.is_none());
            prop_assert!(
                observed
                    .volumes
                    .values()
                    .all(|v| v.cluster_id.is_none_or(|id| id == *cluster_id))
            );
        }
        Step::MarkVolume {
            ordinal,
            cluster_id,
            ..
        } => {
            prop_assert!(recorded.is_none_or(|id| id == *cluster_id));
            let volume = &observed.volumes[ordinal];
            prop_assert!(
                volume.cluster_id.is_none_or(|id| id == *cluster_id),
                "one cluster's disk became another's"
            );
        }
        Step::AddLearner { ordinal } => {
            let list = list.expect("only with a confirmed list");
            let learners = list.members.iter().filter(|m| m.is_learner).count();
            let max = if voters == 1 { 2 } else { 1 };
            prop_assert!(learners < max && list.at(*ordinal).is_none());
            prop_assert!(healthy_but(0) >= quorum(voters));
            let numbers = list.members.iter().filter_map(|m| m.ordinal);
            let is_shared = !observed.shared_nodes(numbers.clone()).is_empty();
            let wanted = desired.replicas as usize + usize::from(is_shared);
            prop_assert!(numbers.count() < wanted, "one more than anybody needs");
            let volume = &observed.volumes[ordinal];
            prop_assert_eq!(volume.cluster_id, recorded);
            prop_assert!(
                volume.member_id.is_none_or(|id| list.holds(id)),
                "a removed member's disk joins"
            );
        }
        Step::Promote { id, ordinal, with } => {
            prop_assert!(in_list(*ordinal).is_some_and(|m| m.is_learner && m.id == *id));
            for id in std::iter::once(id).chain(with) {
                let list = list.expect("only with a confirmed list");
                prop_assert!(list.members.iter().any(|m| m.is_learner && m.id == *id));
                prop_assert!(observed.caught_up[id] >= 2);
            }
            prop_assert!(voters + 1 + with.len() != 2, "just two voters");
        }
        Step::MoveLeader { from, to } => {
            let list = list.expect("only with a confirmed list");
            prop_assert_eq!(list.leader, *from);
            prop_assert!(
                list.voters()
                    .any(|m| m.id == *to && m.id != *from && observed.is_healthy(m))
            );
        }
        Step::RemoveMember { id, .. } => {
            let list = list.expect("only with a confirmed list");
            let member = list
                .members
                .iter()
                .find(|m| m.id == *id)
                .expect("in the list");
            if !member.is_learner {
                prop_assert_ne!(list.leader, *id);
                prop_assert!(
                    healthy_but(*id) >= quorum(voters - 1),
                    "below quorum by a removal"
                );
                prop_assert!(
                    !observed.is_healthy(member) || healthy_but(*id) == voters - 1,
                    "the dead go first"
                );
                let volume = member.ordinal.and_then(|n| observed.volumes.get(&n));
                prop_assert!(
                    !observed.is_healthy(member)
                        || voters > desired.replicas as usize
                        || volume.is_some_and(|v| v.deleting),
                    "a healthy voter on a whole disk goes, and nobody takes its place"
                );
            }
        }
        Step::RestartPod { ordinal, .. } => {
            let is_going = observed
                .volumes
                .get(ordinal)
                .is_some_and(|v| v.deleting && (recorded.is_some() || v.member_id.is_some()));
            prop_assert!(!is_going, "a disk goes with the pod");
            if let Some(member) =
                in_list(*ordinal).filter(|m| !m.is_learner && observed.is_healthy(m))
            {
                prop_assert!(
                    voters == 1 || healthy_but(member.id) == voters - 1,
                    "two down at once"
                );
                prop_assert!(
                    voters == 1 || healthy_but(member.id) >= quorum(voters),
                    "below quorum by a restart"
                );
                prop_assert!(
                    voters == 1 || list.is_some_and(|m| m.leader != member.id),
                    "the leader restarted"
                );
            } else if list.is_none() {
                prop_assert!(!observed.pods[ordinal].running, "restarted on a guess");
            }
        }
        Step::DeleteSet { ordinal, .. } => {
            prop_assert!(list.is_some() && in_list(*ordinal).is_none());
            not_of_a_member(observed, *ordinal)?;
        }
        Step::DeleteVolume { ordinal, .. } => {
            prop_assert!(list.is_some() && in_list(*ordinal).is_none());
            not_of_a_member(observed, *ordinal)?;
            let volume = &observed.volumes[ordinal];
            let is_ours = volume.cluster_id == recorded
                || volume.bootstrap.as_ref().map(|b| &b.token)
                    == observed.record.bootstrap.as_ref().map(|b| &b.token);
            prop_assert!(volume.removed_id.is_some() || volume.lost || is_ours);
            prop_assert!(
                !observed.sets.contains_key(ordinal) && !observed.pods.contains_key(ordinal)
            );
        }
    }
    Ok(())
}

/// A disk of this cluster that is too small is asked to grow, with a quorum and without, whatever else waits.
fn check_growth(desired: &Desired, observed: &Observed, plan: &Plan) -> Result<(), TestCaseError> {
    for (n, volume) in &observed.volumes {
        let is_ours =
            volume.cluster_id.is_some() && volume.cluster_id == observed.record.cluster_id;
        let is_there = !volume.deleting && !volume.lost;
        let is_small = volume.requested_bytes < desired.storage_bytes;
        if is_ours && is_there && is_small && volume.expands != Some(false) {
            prop_assert!(plan.grow.contains_key(n), "a small disk that does not grow");
        }
        if !is_there
            || volume
                .capacity_bytes
                .is_some_and(|has| has > desired.storage_bytes)
        {
            prop_assert!(
                !plan.grow.contains_key(n),
                "a disk that cannot be asked for less"
            );
        }
    }
    Ok(())
}

/// Nothing is taken of a number whose pod answers as a member, or whose member left without the operator.
fn not_of_a_member(observed: &Observed, n: Ordinal) -> Result<(), TestCaseError> {
    let answers = observed.answers.get(&n);
    prop_assert!(answers.is_none_or(|a| Some(a.cluster_id) != observed.record.cluster_id));
    if let Some(volume) = observed.volumes.get(&n).filter(|v| !v.deleting && !v.lost) {
        prop_assert!(volume.member_id.is_none() || volume.removed_id == volume.member_id);
    }
    Ok(())
}

fn check_children(
    observed: &Observed,
    list: Option<&Membership>,
    plan: &Plan,
) -> Result<(), TestCaseError> {
    let record = &observed.record;
    let Some(children) = &plan.children else {
        let is_record = matches!(plan.step, Step::RecordCluster { .. });
        prop_assert!(is_record || record.cluster_id.is_none() && record.bootstrap.is_none());
        return Ok(());
    };
    let Some(list) = list else {
        // Without a list nobody's pod loses the label that keeps it from eviction.
        for (n, child) in &children.members {
            let labelled = observed.pods.get(n).is_some_and(|pod| pod.labelled_voter);
            prop_assert_eq!(child.is_voter, labelled);
        }
        if record.cluster_id.is_some() {
            prop_assert!(children.members.values().all(|c| !c.may_create_volume));
        }
        return Ok(());
    };
    let voters = list.voters().count();
    for member in &list.members {
        let child = member.ordinal.and_then(|n| children.members.get(&n));
        prop_assert!(
            child.is_some_and(|c| !c.may_create_volume),
            "an empty disk for a member"
        );
    }
    let keeps = children.min_available.map_or(0, |min| min as usize);
    let promoted = plan.step.promotes();
    let learners = list
        .members
        .iter()
        .filter(|m| m.is_learner && observed.is_healthy(m));
    let joins = learners.count().max(promoted);
    // A learner that waits for company has no vote yet.
    let joins = if voters == 1 && joins == 1 { 0 } else { joins };
    prop_assert!(voters + joins <= 1 || keeps == quorum(voters + joins));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_for_any_state_is_safe_and_the_same_when_made_twice(
        observed in observed(),
        replicas in select(vec![1, 3, 5, 7]),
        (wait, paused) in (any::<bool>(), prop_oneof![19 => Just(false), 1 => Just(true)]),
    ) {
        let desired = desired(replicas, wait, paused);
        let first = plan(&desired, &observed, NOW);
        prop_assert_eq!(&first, &plan(&desired, &observed, NOW));
        check(&desired, &observed, &first)?;
    }
}

/// The generator reaches every step: a check that never runs shows nothing.
#[test]
fn the_states_made_up_here_ask_for_every_step() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    let states = observed();
    for round in 0..6_000 {
        let observed = states.new_tree(&mut runner).expect("a state").current();
        let desired = desired([1, 3, 5, 7][round % 4], false, false);
        *seen
            .entry(plan(&desired, &observed, NOW).step.name())
            .or_insert(0) += 1;
    }
    for step in [
        "Wait",
        "Stall",
        "RecordBootstrap",
        "RecordCluster",
        "MarkVolume",
        "MarkRemoved",
        "Bootstrap",
        "AddLearner",
        "Promote",
        "MoveLeader",
        "RemoveMember",
        "DeleteSet",
        "DeleteVolume",
        "RestartPod",
    ] {
        assert!(seen.contains_key(step), "{step}: {seen:?}");
    }
}
