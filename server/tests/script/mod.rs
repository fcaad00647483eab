//! The language of the scripts, over a state in memory. Keys and values are words; `\0` in them is a zero byte and
//! `''` is the empty one. `KEYS` is `k`, `[a,b)` or `[a,)`.
//!
//! ```text
//! put KEY VALUE [lease=ID] [prev] [keep-value] [keep-lease]      get KEYS [rev=N] [limit=N] [count] [keys] [prev]
//! del KEYS [prev]                                                     [sort=TARGET-asc|desc] [min-mod=N] ...
//! txn COMPARE & .. ? OP ; .. : OP ; ..                           COMPARE is mod(k)=3, value(k)>x, lease(k)!=0 ..
//! compact N    grant ID TTL    revoke ID    expire TERM ID ..    checkpoint ID=SECONDS ..    lease ID    leases
//! member ID INCARNATION NAME    history FROM [UPTO]    ask txn ..    bytes
//! as system|nobody|USER|USER@AUTH_REVISION    watch KEYS    renew ID    login USER LETTERS    auth enable|disable|status
//! user add USER HASH|-    user del|get USER    user pass USER HASH    user grant|revoke USER ROLE    user list
//! role add|del|get ROLE    role grant ROLE read|write|readwrite KEYS    role revoke ROLE KEYS    role list
//! ```

mod auth;
mod parse;
mod print;

use coord_server::command::{
    Command, Envelope, LogPosition, MemberId, Principal, Proposal, Query, Revision, UnixMillis,
};
use coord_server::state::{FEATURE_LEVEL, History, No, State};

use parse::Line;

/// One state, driven by lines.
pub(crate) struct Session {
    state: State,
    index: u64,
    /// The principal of the commands that follow, set by `as`.
    who: String,
}

impl Session {
    /// A fresh state; all entries are of term 1.
    pub(crate) fn new() -> Self {
        Self {
            state: State::in_memory(),
            index: 0,
            who: "system".to_owned(),
        }
    }

    /// Does what `line` says and answers what there is to print.
    pub(crate) fn run(&mut self, line: &str) -> Vec<String> {
        match parse::line(line) {
            Line::Command(command) => self.apply(command),
            Line::Query(query) => self.ask(&query),
            Line::History { from, upto } => match self.state.history(from, upto, usize::MAX) {
                Ok(History::Changes { events, .. }) => events.iter().map(print::event).collect(),
                Ok(History::Large(large)) => vec![format!("large: {}", large.revision())],
                Err(No::Refused(refusal)) => vec![format!("refused: {refusal}")],
                Err(No::Fault(fault)) => panic!("{fault}"),
            },
            Line::As(who) => {
                self.who = who;
                Vec::new()
            }
            Line::Watch(keys) => {
                let may = self.state.may_watch(&self.principal(), &keys);
                may_or_not(may.map_err(No::from))
            }
            Line::Renew(id) => may_or_not(self.state.may_renew(&self.principal(), id)),
            Line::Bytes => vec![format!("{} bytes", self.state.logical_bytes())],
        }
    }

    fn apply(&mut self, command: Command) -> Vec<String> {
        self.index += 1;
        let at = LogPosition {
            term: 1,
            leader: MemberId(1),
            index: self.index,
        };
        let envelope = Envelope {
            feature_level: FEATURE_LEVEL,
            leader_time: UnixMillis(0),
            proposals: vec![Proposal {
                origin: MemberId(1),
                run: 1,
                sequence: self.index,
                principal: self.principal(),
                command,
            }],
        };
        let mut applied = self.state.apply(at, &envelope).unwrap();
        let outcome = self.state.finish(applied.outcomes.remove(0).1).unwrap();
        let mut printed = print::outcome(&outcome);
        printed.extend(applied.events.iter().map(print::event));
        printed.extend(applied.leases.iter().map(print::lease_change));
        printed.extend(applied.tokens.iter().map(auth::token_change));
        if let Some(Revision(floor)) = applied.compacted {
            printed.push(format!("floor {floor}"));
        }
        printed
    }

    fn ask(&self, query: &Query) -> Vec<String> {
        let answer = self.state.ask(&self.principal(), query).unwrap();
        print::outcome(&self.state.finish(answer).unwrap())
    }

    /// A user asks at the auth revision of now, unless another is named.
    fn principal(&self) -> Principal {
        match self.who.split_once('@') {
            None if self.who == "system" => Principal::System,
            None if self.who == "nobody" => Principal::Anonymous,
            None => Principal::User {
                name: self.who.clone(),
                auth_revision: self.state.auth_revision().unwrap_or(1),
            },
            Some((name, revision)) => Principal::User {
                name: name.to_owned(),
                auth_revision: revision.parse().unwrap(),
            },
        }
    }
}

fn may_or_not(may: Result<(), No>) -> Vec<String> {
    vec![match may {
        Ok(()) => "may".to_owned(),
        Err(No::Refused(refusal)) => format!("refused: {refusal}"),
        Err(No::Fault(fault)) => panic!("{fault}"),
    }]
}
