//! The planner keeps its promises whatever happens and in whatever order (the model asserts them at every step), and
//! once everybody is left alone the cluster ends as the spec says. `PROPTEST_CASES=20000` looks longer.

mod world;

use coord_operator::plan::Step;
use proptest::prelude::*;
use proptest::sample::select;

use world::{Fault, Resizer, World};

/// Happenings in the life of a cluster.
#[derive(Clone, Debug)]
enum Happening {
    Settle,
    Pass,
    /// A pass in which one write goes wrong, the one of that number.
    Faulty(usize, Fault),
    /// A late call arrives.
    LateArrives,
    Forget,
    Replicas(i32),
    Image(bool),
    Kill(u32),
    Revive(u32),
    LoseDisk(u32),
    LoseNode(u32),
    EmptyDisk(u32),
    ForeignDisk(u32),
    DeleteClaim(u32),
    TakeOut(u32),
    StripMarks(u32),
    DeletePod(u32),
    /// With its pod, or without.
    DeleteSet(u32, bool),
    DeleteChildren,
    LoseStatus,
    Recreate(i32),
    Cordon(u32),
    Uncordon(u32),
    /// Its answers do not reach the operator, though it takes part.
    Mute(u32),
    Hear(u32),
    Resizer(Resizer),
    Size(bool),
    BreakTemplate(u32),
}

fn happening() -> impl Strategy<Value = Happening> {
    let replicas = || prop_oneof![Just(1), Just(3), Just(5), Just(7)];
    prop_oneof![
        12 => Just(Happening::Settle),
        12 => Just(Happening::Pass),
        6 => (0..12_usize, fault()).prop_map(|(at, fault)| Happening::Faulty(at, fault)),
        3 => Just(Happening::LateArrives),
        1 => Just(Happening::Forget),
        1 => replicas().prop_map(Happening::Replicas),
        1 => any::<bool>().prop_map(Happening::Image),
        1 => (0..7_u32).prop_map(Happening::Kill),
        2 => (0..7_u32).prop_map(Happening::Revive),
        1 => (0..7_u32).prop_map(Happening::LoseDisk),
        1 => (0..7_u32).prop_map(Happening::LoseNode),
        1 => (0..7_u32).prop_map(Happening::EmptyDisk),
        1 => (0..7_u32).prop_map(Happening::ForeignDisk),
        1 => (0..7_u32).prop_map(Happening::DeleteClaim),
        1 => (0..7_u32).prop_map(Happening::TakeOut),
        1 => (0..7_u32).prop_map(Happening::StripMarks),
        1 => (0..7_u32).prop_map(Happening::DeletePod),
        1 => (0..7_u32, any::<bool>()).prop_map(|(n, with_pod)| Happening::DeleteSet(n, with_pod)),
        1 => Just(Happening::DeleteChildren),
        1 => Just(Happening::LoseStatus),
        1 => replicas().prop_map(Happening::Recreate),
        1 => (1..=8_u32).prop_map(Happening::Cordon),
        2 => (1..=8_u32).prop_map(Happening::Uncordon),
        1 => (0..7_u32).prop_map(Happening::Mute),
        3 => (0..7_u32).prop_map(Happening::Hear),
        1 => select(vec![Resizer::Works, Resizer::Fails, Resizer::Absent]).prop_map(Happening::Resizer),
        1 => any::<bool>().prop_map(Happening::Size),
        1 => (0..7_u32).prop_map(Happening::BreakTemplate),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Crash),
        Just(Fault::LostAnswer),
        Just(Fault::Refused),
        Just(Fault::Late),
    ]
}

fn happen(world: &mut World, happening: &Happening) {
    match happening {
        Happening::Settle => world.settle(),
        Happening::Pass => drop(world.pass()),
        Happening::Faulty(at, fault) => drop(world.pass_with(Some((*at, *fault)))),
        Happening::LateArrives => world.land_late(),
        Happening::Forget => world.forget(),
        Happening::Replicas(replicas) => world.replicas = *replicas,
        Happening::Image(good) => {
            world.image = if *good { "server:2" } else { "server:bad" }.to_owned()
        }
        Happening::Kill(n) => drop(world.dead.insert(*n)),
        Happening::Revive(n) => drop(world.dead.remove(n)),
        Happening::LoseDisk(n) => world.lose_disk(*n),
        Happening::LoseNode(n) => world.lose_node(*n),
        Happening::EmptyDisk(n) => world.empty_disk(*n),
        Happening::ForeignDisk(n) => world.foreign_disk(*n),
        Happening::DeleteClaim(n) => world.delete_claim(*n),
        Happening::TakeOut(n) => world.take_out(*n),
        Happening::StripMarks(n) => world.strip_marks(*n),
        Happening::DeletePod(n) => world.delete_pod(*n),
        Happening::DeleteSet(n, with_pod) => world.delete_set(*n, *with_pod),
        Happening::DeleteChildren => world.delete_children(),
        Happening::LoseStatus => world.lose_status(),
        Happening::Recreate(replicas) => world.recreate(*replicas),
        Happening::Cordon(n) => world.open(*n, false),
        Happening::Uncordon(n) => world.open(*n, true),
        Happening::Mute(n) => drop(world.mute.insert(*n)),
        Happening::Hear(n) => drop(world.mute.remove(n)),
        Happening::Resizer(resizer) => world.resizer = *resizer,
        Happening::Size(large) => world.size = if *large { "2Gi" } else { "1Gi" },
        Happening::BreakTemplate(n) => world.break_template(*n),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_promises_and_ends_as_the_spec_says(
        replicas in prop_oneof![Just(1), Just(3), Just(5)],
        happenings in prop::collection::vec(happening(), 0..160),
        nodes in prop_oneof![Just(0), Just(3), Just(8)],
    ) {
        let mut world = World::new(replicas);
        world.local_nodes(nodes);
        for happening in &happenings {
            happen(&mut world, happening);
        }
        // Left alone, with nobody dead and an image that works, and with what the conditions ask people for done.
        world.dead.clear();
        world.mute.clear();
        world.resizer = Resizer::Works;
        world.size = "2Gi";
        world.nodes.values_mut().for_each(|is_open| *is_open = true);
        world.image = "server:3".to_owned();
        world.do_as_told();
        let last = world.run().pop().expect("a run has a last plan");
        let is_stuck = last.because.contains("its disk would go with the pod");
        if world.data_lost || (is_stuck && last.step == Step::Stall) {
            return Ok(());
        }
        prop_assert_eq!(&last.step, &Step::Done, "{}\n{}", last.because, world.show());
        let wanted = usize::try_from(world.replicas).unwrap();
        prop_assert_eq!(world.sets.len(), wanted, "{}", world.show());
        prop_assert_eq!(world.volumes.len(), wanted, "{}", world.show());
        prop_assert_eq!(world.members.len(), wanted);
        prop_assert_eq!(world.decide().step, Step::Done, "a cluster at rest stays at rest");
        if nodes == 8 {
            let shared = world.observe().shared_nodes(0..20).len();
            prop_assert_eq!(shared, 0, "two on one node\n{}", world.show_nodes());
        }
    }
}
