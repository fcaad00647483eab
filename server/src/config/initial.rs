//! `--initial-cluster`, its state and its token.

use super::{Invalid, Side, Url, invalid};
use crate::cli::Settings;

/// How the cluster comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initial {
    /// Members by name. For `new` the whole cluster; for `existing` this member and places to ask.
    pub cluster: Vec<(String, Vec<Url>)>,
    /// Form a cluster, or join one.
    pub state: InitialState,
    /// Tells clusters apart.
    pub token: String,
    /// Why it can neither form a cluster nor join one. No matter where there is data: manifests are edited after the first
    /// start, and members move.
    pub unfit: Option<Invalid>,
}

/// Form or join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// Form a cluster with everyone named.
    New,
    /// Wait to be added to a cluster that is there.
    Existing,
}

/// The initial cluster that the settings ask for.
///
/// Errors: a text of another form, an unknown state. [`Initial::unfit`] has the reason why a member without data cannot start.
pub(super) fn resolve(settings: &Settings, name: &str, peer: &Side) -> Result<Initial, Invalid> {
    const FLAG: &str = "initial-cluster";
    let mut cluster: Vec<(String, Vec<Url>)> = Vec::new();
    match settings.get(FLAG) {
        None => cluster.push((name.to_owned(), peer.advertise.clone())),
        Some(text) => {
            for part in text.split(',').filter(|part| !part.trim().is_empty()) {
                let Some((member, url)) = part.trim().split_once('=') else {
                    return Err(invalid(
                        FLAG,
                        format!("'{part}' is not of the form name=URL"),
                    ));
                };
                let url = Url::parse(url).map_err(|why| invalid(FLAG, why))?;
                match cluster.iter_mut().find(|(known, _)| known == member) {
                    Some((_, urls)) => urls.push(url),
                    None => cluster.push((member.to_owned(), vec![url])),
                }
            }
        }
    }
    let state = match settings.get("initial-cluster-state").unwrap_or("new") {
        "new" => InitialState::New,
        "existing" => InitialState::Existing,
        other => {
            let why = format!("unexpected value '{other}', use 'new' or 'existing'");
            return Err(invalid("initial-cluster-state", why));
        }
    };
    let token = settings
        .get("initial-cluster-token")
        .unwrap_or("etcd-cluster")
        .to_owned();
    let unfit = unfit(&cluster, state, name, peer).map(|why| invalid(FLAG, why));
    Ok(Initial {
        cluster,
        state,
        token,
        unfit,
    })
}

/// Why a member without data cannot start with this, if it cannot.
fn unfit(
    cluster: &[(String, Vec<Url>)],
    state: InitialState,
    name: &str,
    peer: &Side,
) -> Option<String> {
    let Some((_, own)) = cluster.iter().find(|(member, _)| member == name) else {
        return Some(format!(
            "does not name this member, '{name}'; add {name}=URL"
        ));
    };
    if sorted(own) != sorted(&peer.advertise) {
        return Some(format!(
            "says that '{name}' has {}, but --initial-advertise-peer-urls says {}",
            Url::list(own),
            Url::list(&peer.advertise)
        ));
    }
    let alone = state == InitialState::Existing && cluster.len() < 2;
    alone.then(|| {
        "names nobody to ask; with --initial-cluster-state=existing add a running member".to_owned()
    })
}

fn sorted(urls: &[Url]) -> Vec<String> {
    let mut texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.sort();
    texts
}

#[cfg(test)]
mod tests {
    use crate::config::tests::config;

    #[test]
    fn the_initial_cluster_groups_urls_by_name() {
        let config = config(&[
            ("name", "a"),
            ("initial-advertise-peer-urls", "http://h1:1,http://h2:1"),
            (
                "initial-cluster",
                "b=http://h3:1,a=http://h2:1,a=http://h1:1",
            ),
        ]);
        assert_eq!(config.unwrap().initial.cluster[1].1.len(), 2);
    }

    #[test]
    fn an_initial_cluster_that_nobody_can_start_with_matters_only_without_data() {
        for (pair, why) in [
            (("initial-cluster", "b=http://h:1"), "does not name"),
            (("initial-cluster", "default=http://h:1"), "says that"),
            (("initial-cluster-state", "existing"), "nobody to ask"),
        ] {
            let unfit = config(&[pair]).unwrap().initial.unfit.unwrap();
            assert_eq!(unfit.flag, "initial-cluster");
            assert!(unfit.why.contains(why), "{unfit}");
        }
        assert_eq!(config(&[]).unwrap().initial.unfit, None);
    }
}
