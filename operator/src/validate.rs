//! The step from what was asked to what can be done: `(CoordCluster, Observed) -> Desired`, or the fields at fault.
//!
//! Most rules live at admission (`crd`); here are those that need a look at the cluster, and a second look at the few
//! whose violation would cost data, in case an older CRD let something through.

use crate::crd::{CoordCluster, CoordClusterSpec, ReclaimPolicy, quantity};
use crate::model::template::template_hash;
use crate::model::{Ordinal, version::Version};
use crate::observe::{Observed, StorageClassSeen};
use kube::ResourceExt;

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
    /// What is wrong, and what to do.
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
    recorded.unwrap_or_else(|| {
        let mut sets = observed.sets.values();
        sets.next()
            .map_or_else(|| images.default_image(), |set| set.image.clone())
    })
}

/// Which version the server of `image` is, in order of authority: the spec, the image's tag, the members that run it. A
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
        // The version is unset: what runs stays.
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
