//! The step from what was asked to what can be done: `(CoordCluster, Observed) -> Desired`, or the fields at fault.
//!
//! Most rules live at admission (`crd`); here are those that need a look at the cluster, and a second look at the few
//! whose violation would cost data, in case an older CRD let something through.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::crd::{CoordCluster, CoordClusterSpec, ReclaimPolicy, quantity};
use crate::model::template::template_hash;
use crate::model::{Ordinal, version::Version};
use crate::observe::{Observed, StorageClassSeen};

/// A spec that can be acted on, with every default resolved.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The CoordCluster's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID, which all children name as their owner.
    pub uid: String,
    /// Voting members.
    pub replicas: u32,
    /// The server image.
    pub image: String,
    /// The version of the server in that image; `None` if neither the spec nor its tag nor a member that runs it says.
    pub server_version: Option<Version>,
    /// The hash of everything that a running pod must be restarted for.
    pub template_hash: String,
    /// Bytes of each disk.
    pub storage_bytes: u64,
    /// True if disks go with the CoordCluster.
    pub volumes_owned: bool,
    /// Why no disk can be made now, if so. It stops who needs a new one, and nothing else.
    pub no_new_disks: Option<String>,
    /// True if nothing may be touched.
    pub paused: bool,
    /// The rest, as written.
    pub spec: CoordClusterSpec,
}

/// A field that cannot be acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its path, such as `spec.storage.storageClassName`.
    pub field: &'static str,
    /// The defect and the remedy.
    pub message: String,
}

/// The server images an operator hands out.
#[derive(Clone, Debug)]
pub struct ServerImage {
    /// Without tag, for `spec.version`.
    pub repository: String,
    /// For a spec that names neither image nor version.
    pub tag: String,
}

impl ServerImage {
    /// The image of a new cluster whose spec names none.
    pub fn default_image(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Resolves `cluster`, or says which fields stand in the way.
pub fn validate(
    cluster: &CoordCluster,
    observed: &Observed,
    images: &ServerImage,
) -> Result<Desired, Vec<Problem>> {
    let spec = cluster.spec.clone();
    let mut problems = Vec::new();
    let mut problem = |field, message| problems.push(Problem { field, message });

    if !matches!(spec.replicas, 1 | 3 | 5 | 7) {
        problem(
            "spec.replicas",
            format!("must be 1, 3, 5 or 7, not {}", spec.replicas),
        );
    }
    let storage_bytes = quantity::parse(&spec.storage.size).unwrap_or(0);
    if storage_bytes == 0 {
        problem(
            "spec.storage.size",
            format!("{:?} is not a quantity above zero", spec.storage.size),
        );
    }
    if spec
        .server
        .quota
        .as_deref()
        .is_some_and(|quota| quantity::parse(quota).is_none())
    {
        problem(
            "spec.server.quota",
            "is not a quantity such as 2Gi".to_owned(),
        );
    }
    // Disks that exist don't need their class any more.
    let no_new_disks = (observed.storage_class == StorageClassSeen::Missing).then(|| {
        let class = spec.storage.storage_class_name.as_deref();
        format!(
            "there is no StorageClass {:?}; create it",
            class.unwrap_or_default()
        )
    });
    if let Some(why) = no_new_disks
        .as_ref()
        .filter(|_| observed.volumes.is_empty())
    {
        problem("spec.storage.storageClassName", why.clone());
    }
    if !problems.is_empty() {
        return Err(problems);
    }

    let image = image(&spec, observed, images);
    Ok(Desired {
        name: cluster.name_any(),
        namespace: cluster.namespace().unwrap_or_default(),
        uid: cluster.uid().unwrap_or_default(),
        replicas: u32::try_from(spec.replicas).expect("1, 3, 5 or 7, checked above"),
        template_hash: template_hash(&spec, &image),
        server_version: server_version(&spec, &image, observed),
        image,
        storage_bytes,
        volumes_owned: spec.storage.reclaim_policy == ReclaimPolicy::Delete,
        no_new_disks,
        paused: spec.paused,
        spec,
    })
}

/// The image in order of authority. Where the spec says nothing new it is the one that members run: neither a newer
/// operator, nor one that hands out images of another repository, nor a field that is unset may roll a cluster.
fn image(spec: &CoordClusterSpec, observed: &Observed, images: &ServerImage) -> String {
    if let Some(image) = &spec.image {
        return image.clone();
    }
    let recorded = observed.record.server_image.clone();
    if let Some(version) = &spec.version {
        let is_chosen = observed.record.server_version.as_ref() == Some(version);
        return recorded
            .filter(|_| is_chosen)
            .unwrap_or_else(|| format!("{}:{version}", images.repository));
    }
    let runs = running_images(observed);
    let is_unborn = observed.record.cluster_id.is_none() && observed.waiting.is_empty();
    match recorded {
        // Nobody came up with it: an edit that takes a wrong image back means the one before.
        Some(recorded) if !runs.is_empty() && !runs.contains_key(&recorded) => {
            let most = runs.into_iter().max_by_key(|(_, members)| *members);
            most.map_or(recorded, |(image, _)| image)
        }
        Some(_) if runs.is_empty() && is_unborn => images.default_image(),
        Some(recorded) => recorded,
        None => {
            let mut sets = observed.sets.values();
            sets.next()
                .map_or_else(|| images.default_image(), |set| set.image.clone())
        }
    }
}

/// The images of members that answer, and how many run each.
fn running_images(observed: &Observed) -> BTreeMap<String, usize> {
    let mut images = BTreeMap::new();
    for n in observed.answers.keys() {
        if let Some(set) = observed.sets.get(n) {
            *images.entry(set.image.clone()).or_default() += 1;
        }
    }
    images
}

/// The version of the server in `image`, in order of authority: the spec, the image's tag, the members that run it. A
/// build that calls itself otherwise than its tag is judged by its tag, which a person chose.
fn server_version(spec: &CoordClusterSpec, image: &str, observed: &Observed) -> Option<Version> {
    let of_spec = || Version::parse(spec.version.as_deref()?);
    let runs_it = |n: &Ordinal| observed.sets.get(n).is_some_and(|set| set.image == image);
    let said = || {
        let answers = observed.answers.iter().filter(|(n, _)| runs_it(n));
        answers
            .filter_map(|(_, answer)| Version::parse(&answer.version))
            .min()
    };
    of_spec().or_else(|| Version::of_image(image)).or_else(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Answer, SetSeen};
    use serde_json::json;

    fn spec(version: Option<&str>) -> CoordClusterSpec {
        let spec = json!({ "storage": { "size": "1Gi" }, "version": version });
        serde_json::from_value(spec).expect("a spec")
    }

    fn runs(image: &str, version: Option<&str>) -> Observed {
        let mut observed = Observed::default();
        observed.record.cluster_id = Some(0xc1);
        observed.record.server_image = Some(image.to_owned());
        observed.record.server_version = version.map(ToOwned::to_owned);
        observed
    }

    #[test]
    fn only_the_spec_changes_what_members_run() {
        let images = ServerImage {
            repository: "new/server".to_owned(),
            tag: "9".to_owned(),
        };
        let same = runs("old/server:0.1.0", Some("0.1.0"));
        let by_default = image(&spec(None), &Observed::default(), &images);
        assert_eq!(by_default, "new/server:9");
        // Another repository in Helm, or another default tag.
        assert_eq!(
            image(&spec(Some("0.1.0")), &same, &images),
            "old/server:0.1.0"
        );
        assert_eq!(
            image(&spec(None), &runs("old/server:8", None), &images),
            "old/server:8"
        );
        // The version is unset: the running one stays.
        assert_eq!(image(&spec(None), &same, &images), "old/server:0.1.0");
        // Asked for.
        assert_eq!(
            image(&spec(Some("0.2.0")), &same, &images),
            "new/server:0.2.0"
        );
        let from_image = runs("somebody/else:1", None);
        assert_eq!(
            image(&spec(Some("0.1.0")), &from_image, &images),
            "new/server:0.1.0"
        );
    }

    /// Seen on a real Kubernetes: a wrong image was recorded as what the cluster runs, and unsetting it kept it.
    #[test]
    fn an_image_that_nobody_came_up_with_is_not_kept_when_it_is_unset() {
        let images = ServerImage {
            repository: "new/server".to_owned(),
            tag: "9".to_owned(),
        };
        let mut some = runs("wrong:1", None);
        for (n, image) in [(0, "good:1"), (1, "good:1"), (2, "wrong:1")] {
            let image = image.to_owned();
            some.sets.insert(
                n,
                SetSeen {
                    image,
                    ..SetSeen::default()
                },
            );
        }
        // Without a word from anybody what is recorded stays.
        assert_eq!(image(&spec(None), &some, &images), "wrong:1");
        some.answers.insert(0, Answer::default());
        some.answers.insert(1, Answer::default());
        assert_eq!(image(&spec(None), &some, &images), "good:1");
        some.answers.insert(2, Answer::default());
        assert_eq!(image(&spec(None), &some, &images), "wrong:1", "it runs");
        // At birth nothing runs yet.
        let mut unborn = runs("wrong:1", None);
        unborn.record.cluster_id = None;
        assert_eq!(image(&spec(None), &unborn, &images), "new/server:9");
    }

    #[test]
    fn the_version_is_the_specs_else_the_tags_else_what_members_that_run_it_say() {
        let version = |wanted: Option<&str>, image: &str, observed: &Observed| {
            server_version(&spec(wanted), image, observed)
        };
        let nobody = Observed::default();
        let first = Some(Version(0, 1, 0));
        assert_eq!(version(Some("0.1.0"), "own/build:latest", &nobody), first);
        assert_eq!(version(None, "own/build:0.1.0-5d41", &nobody), first);
        assert_eq!(version(None, "own/build:latest", &nobody), None);
        let mut some = Observed::default();
        for (n, image, said) in [
            (0, "own/build:latest", "0.3.0"),
            (1, "own/build:latest", "0.2.0"),
            (2, "own/build:before", "0.1.0"),
        ] {
            let (mut set, mut answer) = (SetSeen::default(), Answer::default());
            (set.image, answer.version) = (image.to_owned(), said.to_owned());
            some.sets.insert(n, set);
            some.answers.insert(n, answer);
        }
        assert_eq!(
            version(None, "own/build:latest", &some),
            Some(Version(0, 2, 0))
        );
    }
}
