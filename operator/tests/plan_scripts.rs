//! Printed scripts: `testdata/plan/*.txt` hold commands (`> ...`) and what the planner made of them.
//!
//! `UPDATE=1 cargo test -p coord-operator --test plan_scripts` rewrites them; the diff is the review.

mod world;

use std::path::Path;

use coord_operator::crd::LostNode;

use world::{Resizer, STRANGER, World};

#[test]
fn scripts_print_what_they_printed_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/plan");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let update = std::env::var_os("UPDATE").is_some();
    let mut changed = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let printed = replay(&script);
        if printed != script {
            if update {
                std::fs::write(&path, printed).unwrap();
            } else {
                changed.push(format!("{}:\n{printed}", path.display()));
            }
        }
    }
    assert!(
        changed.is_empty(),
        "UPDATE=1 rewrites these:\n{}",
        changed.join("\n")
    );
}

/// The script with its answers as they are today.
fn replay(script: &str) -> String {
    let mut world = World::new(1);
    let mut printed = String::new();
    for line in script.lines() {
        if line.starts_with('#') {
            printed += &format!("{line}\n\n");
        }
        let Some(command) = line.strip_prefix("> ") else {
            continue;
        };
        printed += &format!("{line}\n");
        let answer = answer(&mut world, command);
        if !answer.is_empty() {
            printed += &format!("{answer}\n");
        }
    }
    printed
}

fn answer(world: &mut World, command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let number = |text: &str| {
        text.parse::<u32>()
            .unwrap_or_else(|_| panic!("{text}: a member's number"))
    };
    match words.as_slice() {
        ["create", replicas] => *world = World::new(replicas.parse().expect("a number of voters")),
        ["replicas", replicas] => world.replicas = replicas.parse().expect("a number of voters"),
        ["image", image] => world.image = (*image).to_owned(),
        ["size", "1Gi"] => world.size = "1Gi",
        ["size", "2Gi"] => world.size = "2Gi",
        ["resizer", "works"] => world.resizer = Resizer::Works,
        ["resizer", "fails"] => world.resizer = Resizer::Fails,
        ["no", "resizer"] => world.resizer = Resizer::Absent,
        ["delete", "class"] => world.is_class_gone = true,
        ["restore", "class"] => world.is_class_gone = false,
        ["fill", percent] => world.filled = percent.parse().expect("percent of the quota"),
        ["mute", n] => drop(world.mute.insert(number(n))),
        ["hear", n] => drop(world.mute.remove(&number(n))),
        ["copies", "take", moments] => world.copy_takes = moments.parse().expect("moments"),
        ["break", "template", n] => world.break_template(number(n)),
        ["the", "leader", "refuses", "AddLearner"] => world.says_no = Some("AddLearner"),
        ["the", "leader", "refuses", "nothing"] => world.says_no = None,
        ["wait", passes] => {
            let (plans, refused) = world.wait(number(passes));
            let mut lines: Vec<String> = plans.iter().map(line).collect();
            lines.extend((refused > 0).then(|| format!("refused {refused} times")));
            return lines.join("\n");
        }
        ["conditions"] => return world.conditions(),
        ["pause"] => world.paused = true,
        ["go", "on"] => world.paused = false,
        ["kill", n] => drop(world.dead.insert(number(n))),
        ["revive", n] => drop(world.dead.remove(&number(n))),
        ["lead", n] => world.lead(number(n)),
        ["lose", "disk", n] => world.lose_disk(number(n)),
        ["empty", "disk", n] => world.empty_disk(number(n)),
        ["foreign", "disk", n] => world.foreign_disk(number(n)),
        ["delete", "claim", n] => world.delete_claim(number(n)),
        ["enable", "authentication"] => world.is_locked = true,
        ["disable", "authentication"] => world.is_locked = false,
        ["add", "a", "stranger"] => world.add_stranger(),
        ["the", "stranger", "leads"] => world.lead(STRANGER),
        ["take", "out", "the", "stranger"] => world.take_out(STRANGER),
        ["take", "out", n] => world.take_out(number(n)),
        ["strip", "marks", n] => world.strip_marks(number(n)),
        ["delete", "pod", n] => world.delete_pod(number(n)),
        ["orphan", "pod", n] => world.delete_set(number(n), false),
        ["forget", "disk", n] => drop(world.volumes.remove(&number(n))),
        ["lose", "status"] => world.lose_status(),
        ["recreate", replicas] => world.recreate(replicas.parse().expect("a number of voters")),
        ["restart", "operator"] => world.forget(),
        ["local", "nodes", count] => world.local_nodes(number(count)),
        ["cordon", node] => drop(world.nodes.insert((*node).to_owned(), false)),
        ["uncordon", node] => drop(world.nodes.insert((*node).to_owned(), true)),
        ["show", "nodes"] => return world.show_nodes(),
        ["settle"] => world.settle(),
        ["pass"] => return line(&world.pass()),
        ["lose", "node", n] => world.lose_node(number(n)),
        ["wait", "for", "lost", "nodes"] => world.lost_node = LostNode::Wait,
        ["run"] => return world.run().iter().map(line).collect::<Vec<_>>().join("\n"),
        ["show", "disks"] => return world.show_disks(),
        ["show"] => return world.show(),
        _ => panic!("no such command: {command}"),
    }
    String::new()
}

fn line(plan: &coord_operator::plan::Plan) -> String {
    format!("{}: {}", plan.step.name(), plan.because)
}
