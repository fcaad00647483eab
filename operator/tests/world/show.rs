//! The world in lines, for scripts and failures.

use std::collections::BTreeSet;

use coord_operator::model::Ordinal;

use super::World;

impl World {
    /// The node that each disk is tied to.
    pub(crate) fn show_nodes(&self) -> String {
        let nodes = self.volumes.iter();
        let lines = nodes.map(|(n, v)| format!("demo-{n}: {}", v.node.as_deref().unwrap_or("-")));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The size that each disk asks for.
    pub(crate) fn show_disks(&self) -> String {
        let disks = self.volumes.iter();
        let lines = disks.map(|(n, v)| format!("demo-{n}: {} MiB", v.bytes >> 20));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// One line per number in use.
    pub(crate) fn show(&self) -> String {
        let numbers: BTreeSet<Ordinal> = self
            .sets
            .keys()
            .chain(self.volumes.keys())
            .copied()
            .collect();
        let mut lines: Vec<String> = numbers
            .into_iter()
            .map(|n| {
                let member = self.members.iter().find(|m| m.ordinal == n);
                let role = match member {
                    None => "no member",
                    Some(m) if self.leader == Some(m.id) => "leader",
                    Some(m) if m.is_learner => "learner",
                    Some(_) => "voter",
                };
                let pod = match self.pods.get(&n) {
                    None => "no pod".to_owned(),
                    Some(pod) if self.runs(n) => format!("runs {}", pod.hash),
                    Some(_) => "down".to_owned(),
                };
                let disk = if self.volumes.contains_key(&n) {
                    "disk"
                } else {
                    "no disk"
                };
                format!("demo-{n}: {role}, {pod}, {disk}")
            })
            .collect();
        if let Some(min_available) = self.min_available {
            lines.push(format!("budget keeps {min_available}"));
        }
        lines.join("\n")
    }
}
