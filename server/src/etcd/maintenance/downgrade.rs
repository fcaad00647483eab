//! `Downgrade`: whether the cluster may go back by a minor version, in etcd's answers.

use coord_proto::etcd::etcdserverpb as pb;
use pb::downgrade_request::DowngradeAction;
use tonic::{Response, Status};

use crate::cli::ETCD_CLUSTER_VERSION;
use crate::coordinator::Coordinator;
use crate::etcd::error::{Invalid, not_yet, status};
use crate::etcd::header;

/// Major and minor.
type Version = (i64, i64);

pub(super) async fn answer(
    coordinator: &Coordinator,
    request: &pb::DowngradeRequest,
) -> Result<Response<pb::DowngradeResponse>, Status> {
    let action = DowngradeAction::try_from(request.action);
    match action.map_err(|_| Status::unknown("etcdserver: unknown method"))? {
        DowngradeAction::Validate => validate(coordinator, &request.version).await?,
        DowngradeAction::Enable => {
            validate(coordinator, &request.version).await?;
            return Err(not_yet("a downgrade"));
        }
        // etcd answers this whether there is one or not.
        DowngradeAction::Cancel => {}
    }
    // The cluster's version without its last part.
    let version = ETCD_CLUSTER_VERSION.rsplit_once('.');
    Ok(Response::new(pb::DowngradeResponse {
        header: Some(header::at(coordinator, coordinator.revision())),
        version: version.map_or("", |(version, _)| version).to_owned(),
    }))
}

async fn validate(coordinator: &Coordinator, version: &str) -> Result<(), Status> {
    let target = parse(version).ok_or(Invalid::DowngradeFormat)?;
    let read = coordinator.read_barrier().await;
    read.map_err(|error| status(&error))?;
    if !is_one_below(target) {
        return Err(Invalid::DowngradeTarget.into());
    }
    Ok(())
}

/// etcd goes back by one minor version at a time.
fn is_one_below((major, minor): Version) -> bool {
    let now = parse(ETCD_CLUSTER_VERSION);
    now.is_some_and(|now| now == (major, minor + 1))
}

/// `major.minor`, `major.minor.patch`, and what may follow a patch. Source: go-semver, `NewVersion`.
fn parse(text: &str) -> Option<Version> {
    let whole = |text: &str| {
        let text = text.split_once('+').map_or(text, |(core, _)| core);
        let core = text.split_once('-').map_or(text, |(core, _)| core);
        let mut parts = core.splitn(3, '.').map(|part| part.parse::<i64>().ok());
        let version = (parts.next()??, parts.next()??);
        parts.next()?.map(|_| version)
    };
    whole(text).or_else(|| whole(&format!("{text}.0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_go_semver_reads_them() {
        for text in ["3.5", "3.5.0", "3.5.9", "3.5.0-rc.1", "3.5.0+build.7"] {
            assert_eq!(parse(text), Some((3, 5)), "{text}");
        }
        for text in ["", "3", "3.x", "3.5.x", "3*.9", "3.5.1.2", "v3.5", " 3.5"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_minor_version_below_is_a_target() {
        let (major, minor) = parse(ETCD_CLUSTER_VERSION).unwrap();
        assert!(is_one_below((major, minor - 1)));
        for other in [(major, minor), (major, minor - 2), (major - 1, minor - 1)] {
            assert!(!is_one_below(other), "{other:?}");
        }
    }
}
