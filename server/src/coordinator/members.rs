//! The members of the cluster, and changes to them.

use super::{Coordinator, Error};
use crate::command::{Member, MemberId, MemberRefusal, Refusal, Unavailable};
use crate::raft::MemberChange;

impl Coordinator {
    /// All members in id order.
    ///
    /// Errors: `Unavailable` if `linearizable` and no leader answers in time.
    pub async fn members(&self, linearizable: bool) -> Result<Vec<Member>, Error> {
        if linearizable {
            self.read_barrier().await?;
        }
        self.members_now()
    }

    /// All members in id order, as this member has applied them.
    pub(super) fn members_now(&self) -> Result<Vec<Member>, Error> {
        let listed = self.raft.members().map_err(|fault| self.stop_on(&fault))?;
        let records = self.state.with(|state| state.members());
        let mut members: Vec<Member> = listed
            .into_iter()
            .map(|(id, peer_urls, is_learner)| {
                let record = records.iter().find(|record| record.id == id);
                Member {
                    id,
                    name: record.map(|record| record.name.clone()).unwrap_or_default(),
                    peer_urls,
                    client_urls: record
                        .map(|record| record.client_urls.clone())
                        .unwrap_or_default(),
                    is_learner,
                }
            })
            .collect();
        members.sort_by_key(|member| member.id);
        Ok(members)
    }

    /// Adds a member under a new id. Returns it and the members after the change.
    ///
    /// Errors: `Refused` if a URL is taken or the cluster is not fit for a change.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Result<(Member, Vec<Member>), Error> {
        // Random rather than derived: an id must never come back, whatever URL and token it had.
        let id = MemberId(rand::random::<u64>().max(1));
        let change = if learner {
            MemberChange::AddLearner {
                id,
                peer_urls: peer_urls.clone(),
            }
        } else {
            MemberChange::AddVoter {
                id,
                peer_urls: peer_urls.clone(),
            }
        };
        let members = self.member_change(change).await?;
        let member = Member {
            id,
            name: String::new(),
            peer_urls,
            client_urls: Vec::new(),
            is_learner: learner,
        };
        Ok((member, members))
    }

    /// Removes a member for good, and those `with` it in the same change. Returns the members after the change.
    ///
    /// Errors: `Refused` if any of them is unknown or too few would be left; then none is removed.
    pub async fn member_remove(
        &self,
        id: MemberId,
        with: Vec<MemberId>,
    ) -> Result<Vec<Member>, Error> {
        self.member_change(MemberChange::Remove { id, with }).await
    }

    /// Changes where peers reach a member. Returns the members after the change.
    pub async fn member_update(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<Vec<Member>, Error> {
        self.member_change(MemberChange::SetPeerUrls { id, peer_urls })
            .await
    }

    /// Gives a learner a vote, and those `with` it theirs in the same change. Returns the members after the change.
    ///
    /// Errors: `Refused` while any of them is behind; then none has a vote.
    pub async fn member_promote(
        &self,
        id: MemberId,
        with: Vec<MemberId>,
    ) -> Result<Vec<Member>, Error> {
        self.member_change(MemberChange::Promote { id, with }).await
    }

    /// Hands leadership to another voter. Only the leader does this.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), Error> {
        if !self.raft.status().is_leader {
            return Err(Refusal::Member(MemberRefusal::NotLeader).into());
        }
        self.in_time(async { self.raft.transfer_leader(to).await.map_err(Error::from) })
            .await
    }

    async fn member_change(&self, change: MemberChange) -> Result<Vec<Member>, Error> {
        if self.raft.is_learner() {
            return Err(Unavailable::Learner.into());
        }
        self.in_time(async { self.raft.change(change).await.map_err(Error::from) })
            .await?;
        // The change is committed; the list of this member must show it before the caller may ask for it.
        self.members(true).await
    }
}
