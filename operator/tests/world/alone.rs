//! The moves that Kubernetes and the servers make by themselves in a moment.

use coord_operator::model::{Ordinal, quorum};

use super::{Member, Pod, Resizer, World};

impl World {
    /// The moves that Kubernetes and the servers make by themselves in a moment.
    pub(crate) fn settle(&mut self) {
        self.now += 1;
        for (n, pod) in &mut self.pods {
            pod.is_orphan &= !self.sets.contains_key(n);
        }
        self.pods
            .retain(|n, pod| pod.is_orphan || self.sets.contains_key(n));
        let going: Vec<Ordinal> = self
            .volumes
            .iter()
            .filter(|(n, v)| v.terminating && !self.pods.contains_key(n))
            .map(|(n, _)| *n)
            .collect();
        for n in going {
            self.volumes.remove(&n);
            self.count_what_is_left();
        }
        let missing: Vec<Ordinal> = self
            .sets
            .keys()
            .filter(|n| !self.pods.contains_key(n))
            .copied()
            .collect();
        for n in missing {
            let (uid, set) = (format!("pod-{}", self.fresh()), &self.sets[&n]);
            self.pods.insert(
                n,
                Pod {
                    uid,
                    start: 0,
                    hash: set.hash.clone(),
                    voter_label: false,
                    is_strict: set.is_strict,
                    is_placed: false,
                    revision: set.content.clone(),
                    is_nonsense: set.is_nonsense,
                    is_orphan: false,
                },
            );
        }
        self.schedule();
        if self.resizer == Resizer::Works {
            self.volumes
                .values_mut()
                .for_each(|volume| volume.capacity = volume.bytes);
        }
        for n in self.pods.keys().copied().collect::<Vec<_>>() {
            if self.runs(n) && self.member_on(n).is_none() {
                self.start_on_empty_disk(n);
                // Its pod turns ready, which the StatefulSet's status tells.
                if self.member_on(n).is_some()
                    && let Some(set) = self.sets.get_mut(&n)
                {
                    set.version += 1;
                }
            }
        }
        if self.has_quorum() {
            for member in &mut self.members {
                member.lag = member.lag.saturating_sub(1);
            }
            let leads = self
                .leader
                .and_then(|id| self.voters().find(|m| m.id == id))
                .is_some_and(|m| self.is_up(m));
            if !leads {
                let elected = self.voters().find(|m| self.is_up(m)).map(|m| m.id);
                self.leader = elected;
            }
        } else {
            self.leader = None;
        }
    }

    /// Gives pods their nodes, as the scheduler does: where the disk is, else where the fewest members are; and a strict
    /// pod nowhere where there would be two more than on another node that takes pods.
    fn schedule(&mut self) {
        let waiting: Vec<Ordinal> = self
            .pods
            .iter()
            .filter(|(n, pod)| !pod.is_placed && self.volumes.contains_key(n))
            .map(|(n, _)| *n)
            .collect();
        for n in waiting {
            let placed = self.pods.iter().filter(|(_, pod)| pod.is_placed);
            let used: Vec<&String> = placed
                .filter_map(|(n, _)| self.volumes.get(n)?.node.as_ref())
                .collect();
            let count = |node: &String| used.iter().filter(|used| **used == node).count();
            let open: Vec<&String> = self
                .nodes
                .iter()
                .filter_map(|(node, is_open)| is_open.then_some(node))
                .collect();
            let least = open.iter().map(|node| count(node)).min().unwrap_or(0);
            let tied_to = self.volumes[&n].node.clone();
            let mut candidates = open.clone();
            candidates.retain(|node| tied_to.as_ref().is_none_or(|tied| tied == *node));
            candidates.sort_by_key(|node| count(node));
            let is_strict = self.pods[&n].is_strict;
            let fits = |node: &&&String| !is_strict || count(node) < least + 1;
            let Some(node) = candidates.iter().find(fits).map(|node| (*node).clone()) else {
                continue;
            };
            self.volumes.get_mut(&n).expect("it has a disk").node = Some(node);
            self.pods.get_mut(&n).expect("it waits").is_placed = true;
        }
    }

    /// A server on an empty disk waits to be added; it never does more by itself.
    fn start_on_empty_disk(&mut self, n: Ordinal) {
        let Some(cluster) = self.cluster_id.filter(|_| self.leader.is_some()) else {
            return;
        };
        // A member that had joined and lost its disk is refused under its old id.
        let Some(member) = self
            .members
            .iter_mut()
            .find(|m| m.ordinal == n && !m.joined)
        else {
            return;
        };
        member.joined = true;
        member.lag = self.copy_takes;
        self.volumes.get_mut(&n).expect("it runs").data = Some((cluster, member.id));
    }

    /// The server of `n`, which waits on an empty disk, forms a cluster alone. Ids come from its URL and the token.
    pub(super) fn form(&mut self, n: Ordinal) {
        let (cluster, member) = (0xc0 + self.fresh(), 0xa0 + self.fresh());
        self.bootstraps += 1;
        assert!(
            self.bootstraps == 1 || self.members.len() <= 1 || self.data_lost,
            "a second cluster was formed beside one that others had joined"
        );
        assert!(
            self.record.cluster_id.is_none(),
            "a cluster was formed though one is recorded"
        );
        self.cluster_id = Some(cluster);
        self.members = vec![Member {
            id: member,
            ordinal: n,
            is_learner: false,
            joined: true,
            lag: 0,
        }];
        self.volumes.get_mut(&n).expect("it runs").data = Some((cluster, member));
    }

    pub(super) fn count_what_is_left(&mut self) {
        if !self.has_quorum() {
            // Counted with all who are down brought back: a voter without a disk is gone for good.
            let has_data = |m: &&Member| {
                let volume = self.volumes.get(&m.ordinal);
                volume.is_some_and(|v| !v.stranded && v.data.is_some_and(|(_, id)| id == m.id))
            };
            let left = self.voters().filter(has_data).count();
            self.data_lost |= left < quorum(self.voters().count().max(1));
        }
    }
}
