//! The question of a member without data: who is in the cluster?

use std::time::Duration;

use coord_proto::peer as wire;
use tonic::Code;

use super::line;
use crate::command::{ClusterId, MemberId};
use crate::network::Network;

/// How long one peer may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A running member's report of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    /// Identity of the cluster.
    pub cluster: ClusterId,
    /// Its members: id, peer URLs, whether a learner.
    pub members: Vec<(MemberId, Vec<String>, bool)>,
    /// Those that have ever run.
    pub started: Vec<MemberId>,
    /// The asker: the member that was added with one of its peer URLs, or has its id.
    pub own: Option<MemberId>,
    /// The cluster's feature level.
    pub level: u32,
    /// Whether a leader confirmed all this: a member that is cut off may still list one that was removed since.
    pub is_current: bool,
}

impl JoinAnswer {
    /// The asker's member if that has run already.
    pub fn used_up(&self) -> Option<MemberId> {
        self.own.filter(|own| self.started.contains(own))
    }

    /// How much the answerer knows of the asker: nothing, that it was added, that it has run.
    fn knows(&self) -> u8 {
        u8::from(self.own.is_some()) + u8::from(self.used_up().is_some())
    }
}

/// The program that asks.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// A program without data, to be reached at these URLs.
    At(&'a [String]),
    /// A member that has its id.
    Member(MemberId),
}

/// Why nobody answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// A member of another cluster answered: asking again is of no use.
    #[error("{0}")]
    Refused(String),
    /// None of them could be reached, or none is in a cluster yet.
    #[error("{0}")]
    Unreachable(String),
}

/// Asks the members at these URLs, one after the other, until an answer `settles` it; if none does, the first of those that
/// know most of the asker. A member that is cut off from its leader may not have heard yet that the asker was added, or ran.
pub async fn ask_membership(
    network: &Network,
    urls: &[String],
    token: &str,
    asker: Asker<'_>,
    settles: impl Fn(&JoinAnswer) -> bool,
) -> Result<JoinAnswer, AskError> {
    let mut why = AskError::Unreachable("no peer URL to ask".to_owned());
    let mut best: Option<JoinAnswer> = None;
    for url in urls {
        let (member, peer_urls) = match asker {
            Asker::At(peer_urls) => (0, peer_urls.to_vec()),
            Asker::Member(member) => (member.0, Vec::new()),
        };
        let request = wire::JoinRequest {
            token: token.to_owned(),
            peer_urls,
            member,
        };
        let asked = async { line::client(network, url)?.join(request).await };
        match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(Ok(response)) => {
                let answer = answer(response.into_inner());
                if settles(&answer) {
                    return Ok(answer);
                }
                let best = best.get_or_insert_with(|| answer.clone());
                if answer.knows() > best.knows() {
                    *best = answer;
                }
            }
            Ok(Err(status)) if status.code() == Code::PermissionDenied => {
                why = AskError::Refused(format!("{url}: {}", status.message()));
            }
            Ok(Err(status)) if matches!(why, AskError::Unreachable(_)) => {
                why = AskError::Unreachable(format!("{url}: {}", status.message()));
            }
            Err(_) if matches!(why, AskError::Unreachable(_)) => {
                why = AskError::Unreachable(format!("{url}: no answer"));
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    best.ok_or(why)
}

fn answer(response: wire::JoinResponse) -> JoinAnswer {
    let wire::JoinResponse {
        cluster,
        members,
        own,
        level,
        current,
    } = response;
    let started = members.iter().filter(|member| member.started);
    JoinAnswer {
        cluster: ClusterId(cluster),
        started: started.map(|member| MemberId(member.id)).collect(),
        members: members
            .into_iter()
            .map(|member| (MemberId(member.id), member.peer_urls, member.learner))
            .collect(),
        own: (own != 0).then_some(MemberId(own)),
        level,
        is_current: current,
    }
}
