//! The operator dies, is refused, or loses an answer at each of its writes, one history per write: the end is the same.

mod world;

use coord_operator::plan::Step;

use world::{Fault, World};

/// Something to do with a cluster, from a state at rest to the next.
struct Workload {
    name: &'static str,
    before: fn() -> World,
    change: fn(&mut World),
}

fn at_rest(replicas: i32) -> World {
    let mut world = World::new(replicas);
    world.run();
    world
}

const WORKLOADS: [Workload; 15] = [
    Workload {
        name: "create 1",
        before: || World::new(1),
        change: |_| {},
    },
    Workload {
        name: "create 3",
        before: || World::new(3),
        change: |_| {},
    },
    Workload {
        name: "create 5",
        before: || World::new(5),
        change: |_| {},
    },
    Workload {
        name: "scale 1 to 3",
        before: || at_rest(1),
        change: |w| w.replicas = 3,
    },
    Workload {
        name: "scale 3 to 5",
        before: || at_rest(3),
        change: |w| w.replicas = 5,
    },
    Workload {
        name: "scale 5 to 3",
        before: || at_rest(5),
        change: |w| w.replicas = 3,
    },
    Workload {
        name: "scale 5 to 1, led by the last",
        before: || at_rest(5),
        change: |w| {
            w.lead(4);
            w.replicas = 1;
        },
    },
    Workload {
        name: "scale 3 to 1, led by the last",
        before: || at_rest(3),
        change: |w| {
            w.lead(2);
            w.replicas = 1;
        },
    },
    Workload {
        name: "scale 3 to 1, without the first",
        before: || at_rest(3),
        change: |w| {
            w.lose_disk(0);
            w.replicas = 1;
        },
    },
    Workload {
        name: "roll",
        before: || at_rest(3),
        change: |w| w.image = "server:2".to_owned(),
    },
    Workload {
        name: "roll and scale 3 to 5",
        before: || at_rest(3),
        change: |w| {
            w.image = "server:2".to_owned();
            w.replicas = 5;
        },
    },
    Workload {
        name: "roll, and a claim is being deleted",
        before: || at_rest(3),
        change: |w| {
            w.delete_claim(1);
            w.image = "server:2".to_owned();
        },
    },
    Workload {
        name: "lost disk",
        before: || at_rest(3),
        change: |w| w.lose_disk(1),
    },
    Workload {
        name: "lost node",
        before: || at_rest(3),
        change: |w| w.lose_node(0),
    },
    Workload {
        name: "adopt",
        before: || at_rest(3),
        change: |w| w.recreate(3),
    },
];

#[test]
fn whatever_write_the_operator_dies_after_the_end_is_the_same() {
    for workload in &WORKLOADS {
        let clean = finish(start(workload));
        assert!(clean.written > 0, "{}", workload.name);
        for dies_after in 1..=clean.written {
            let mut world = start(workload);
            world.dies_after = Some(dies_after);
            let world = finish(world);
            assert_eq!(
                world.masked(),
                clean.masked(),
                "{}, dies after write {dies_after}",
                workload.name
            );
        }
    }
}

/// Not one death, but one after each write: every process makes exactly one.
#[test]
fn an_operator_that_dies_after_every_write_gets_there() {
    for workload in &WORKLOADS {
        let clean = finish(start(workload));
        let mut world = start(workload);
        for _ in 0..2_000 {
            world.settle();
            world.dies_after = Some(world.written + 1);
            world.pass();
        }
        world.dies_after = None;
        let decided = world.decide();
        assert_eq!(
            decided.step,
            Step::Done,
            "{}: {}",
            workload.name,
            decided.because
        );
        assert_eq!(world.masked(), clean.masked(), "{}", workload.name);
    }
}

/// Also when the call is not done, is done without an answer, or is done some time after its operator has died.
#[test]
fn whatever_becomes_of_one_write_the_end_is_the_same() {
    for workload in &WORKLOADS {
        let clean = finish(start(workload)).masked();
        let mut world = start(workload);
        for pass in 0.. {
            world.settle();
            if world.decide().step == Step::Done {
                break;
            }
            for write in world.clone().writes_that_change_something() {
                for fault in [Fault::LostAnswer, Fault::Refused, Fault::Late] {
                    let mut world = world.clone();
                    world.pass_with(Some((write, fault)));
                    for _ in 0..3 {
                        world.settle();
                        world.pass();
                    }
                    world.land_late();
                    let what = format!(
                        "{}: {fault:?} at write {write} of pass {pass}",
                        workload.name
                    );
                    assert_eq!(finish(world).masked(), clean, "{what}");
                }
            }
            world.pass();
        }
    }
}

/// A policy that freezes one kind stops what would have to change in it, and nothing else.
#[test]
fn a_kind_that_the_api_server_refuses_stops_only_what_needs_it() {
    let at_rest = |w: &&Workload| !w.name.starts_with("create") && w.name != "adopt";
    for workload in WORKLOADS.iter().filter(at_rest) {
        let clean = finish(start(workload)).masked();
        for kind in [
            "Service ",
            "ServiceAccount ",
            "Owners of disk",
            "PodDisruptionBudget ",
        ] {
            // How many voters there are is what a budget says; a replacement is one more for a while.
            let grows = workload.name.contains("scale") || workload.name.contains("claim");
            if kind.starts_with("Pod") && grows {
                continue;
            }
            let mut world = start(workload);
            world.refuses = Some(kind);
            let what = format!("{}, {kind}frozen", workload.name);
            assert_eq!(finish(world).masked(), clean, "{what}");
        }
    }
}

/// A write that is refused for a while is done afterwards, and in between is not tried all the time.
#[test]
fn refused_writes_wait_longer_each_time_and_are_done_in_the_end() {
    for workload in &WORKLOADS {
        let clean = finish(start(workload)).masked();
        for kind in [
            "Service ",
            "StatefulSet ",
            "PodDisruptionBudget ",
            "Disk ",
            "Status",
        ] {
            let mut world = start(workload);
            world.refuses = Some(kind);
            let mut refused = 0;
            for _ in 0..120 {
                world.settle();
                refused += world.refused_in_a_pass();
            }
            // Two minutes, and no more than a handful of names of a kind; the status has its own pace.
            let is_few = refused <= 60 || kind == "Status";
            assert!(is_few, "{}, {kind}: {refused} tries", workload.name);
            world.refuses = None;
            for _ in 0..60 {
                world.settle();
                world.pass();
            }
            assert_eq!(finish(world).masked(), clean, "{}, {kind}", workload.name);
        }
    }
}

fn start(workload: &Workload) -> World {
    let mut world = (workload.before)();
    world.written = 0;
    (workload.change)(&mut world);
    world
}

fn finish(mut world: World) -> World {
    let last = world.run().pop().expect("a run has a last plan");
    assert_eq!(last.step, Step::Done, "{}", last.because);
    let due = world.due();
    // A write that a policy forbids stays due.
    assert!(
        due.is_empty() || world.refuses.is_some(),
        "at rest: {due:?}"
    );
    world
}
