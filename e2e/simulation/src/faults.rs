//! Faults, and when they come: all of it from the seed.
//!
//! A run draws which kinds of fault it has at all (a run with few kinds goes deeper into those) and how often they come.
//! Each fault brings its own end. Decisions only; `world` carries them out.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::interpose;
use crate::network::{HostId, Weather};

/// How many of the faults come while clients wait for answers, and how long after they asked.
const AT_BEAT: f64 = 0.7;
const AFTER_BEAT: Duration = Duration::from_millis(5);

/// How many runs have disks that go back in time.
const BACK_IN_TIME: f64 = 0.06;
/// How old such a copy is at least.
const COPY_AGE: Duration = Duration::from_secs(5);
/// And how long it takes until such a member is well again.
const REPAIR: Duration = Duration::from_secs(20);

/// Something the world does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `kill -9`.
    Kill(HostId),
    /// The plug is pulled.
    PowerOff(HostId),
    /// Starts a member that does not run.
    Start(HostId),
    /// Asks a member to stop in good order.
    Stop(HostId),
    /// `SIGSTOP`.
    Pause(HostId),
    /// `SIGCONT`.
    Resume(HostId),
    /// Nothing from the first reaches the second.
    Cut(HostId, HostId),
    /// It does again.
    Join(HostId, HostId),
    /// Packets of the first to the second are taken on the way, and its connections break.
    Swallow(HostId, HostId),
    /// It is passed on again.
    Pass(HostId, HostId),
    /// All connections between two break, between any two bytes.
    Break(HostId, HostId),
    /// All links become so.
    Weather(Slowness),
    /// The time that durable writes of a member take.
    DiskLatency(HostId, Duration),
    /// The time for which a member's disk takes no write.
    DiskStall(HostId, Duration),
    /// The next write to a member's disk fails.
    DiskFails(HostId),
    /// A copy of a member's disk is taken.
    Copy(HostId),
    /// A member that does not run gets that copy back.
    PutBack(HostId),
    /// The milliseconds by which a member's wall clock is off.
    Skew(HostId, i64),
}

/// Kinds of weather.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slowness {
    /// A building.
    Calm,
    /// A continent.
    Far,
    /// A bad cable.
    Lossy,
}

impl Slowness {
    /// In numbers.
    pub fn weather(self) -> Weather {
        const MILLIS: u64 = 1_000_000;
        match self {
            Self::Calm => Weather::calm(),
            Self::Far => Weather {
                base: 20 * MILLIS,
                jitter: 10 * MILLIS,
                lost: 1,
            },
            Self::Lossy => Weather {
                base: MILLIS / 2,
                jitter: MILLIS,
                lost: 80,
            },
        }
    }
}

/// Kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    KillLeader,
    PowerOff,
    PowerOffAll,
    Stop,
    Pause,
    PauseLeader,
    Isolate,
    Cut,
    CutOneWay,
    Weather,
    SlowDisk,
    StallDisk,
    FailDisk,
    Skew,
    /// Connections between two break.
    Break,
    /// A proxy in front of a member starts again: all its connections break.
    Proxy,
    /// Requests arrive and answers do not, on connections that are opened meanwhile too.
    LoseAnswers,
    /// A member comes back with an older copy of its disk. Always alone: what only members remember that cannot be asked
    /// may be lost, and nobody can tell.
    BackInTime,
}

const KINDS: [Kind; 18] = [
    Kind::Kill,
    Kind::KillLeader,
    Kind::PowerOff,
    Kind::PowerOffAll,
    Kind::Stop,
    Kind::Pause,
    Kind::PauseLeader,
    Kind::Isolate,
    Kind::Cut,
    Kind::CutOneWay,
    Kind::Weather,
    Kind::SlowDisk,
    Kind::StallDisk,
    Kind::FailDisk,
    Kind::Skew,
    Kind::Break,
    Kind::Proxy,
    Kind::LoseAnswers,
];

/// The faults of one run.
pub struct Faults {
    random: StdRng,
    kinds: Vec<Kind>,
    /// Mean pause between two.
    pause: Duration,
    /// Mean time that one lasts.
    lasts: Duration,
}

/// Actions, each after a time from now.
pub type Agenda = Vec<(Duration, Action)>;

impl Faults {
    /// Draws what a run has.
    pub fn draw(mut random: StdRng) -> Self {
        let share = random.random_range(0.2..0.8);
        let mut kinds: Vec<Kind> = KINDS
            .into_iter()
            .filter(|_| random.random_bool(share))
            .collect();
        if kinds.is_empty() {
            kinds.push(Kind::PowerOffAll);
        }
        if random.random_bool(BACK_IN_TIME) {
            kinds = vec![Kind::BackInTime];
        }
        let pause = Duration::from_secs_f64(random.random_range(1.5..10.0));
        let lasts = Duration::from_secs_f64(random.random_range(0.5..6.0));
        Self {
            random,
            kinds,
            pause,
            lasts,
        }
    }

    /// The kinds of fault drawn, for people.
    pub fn describe(&self) -> String {
        format!(
            "every {:.1} s for {:.1} s: {:?}",
            self.pause.as_secs_f64(),
            self.lasts.as_secs_f64(),
            self.kinds
        )
    }

    /// How long it is to the next fault. Most come just after clients began to call, at a beat.
    pub fn pause(&mut self, until_beat: impl Fn(Duration) -> Duration) -> Duration {
        let mean = self.pause;
        let mut pause = self.about(mean);
        if self.kinds == [Kind::BackInTime] {
            // One after the other.
            pause += COPY_AGE + REPAIR;
        }
        if self.random.random_bool(AT_BEAT) {
            let then = Duration::from_nanos(interpose::now()) + pause;
            pause + until_beat(then) + self.about(AFTER_BEAT)
        } else {
            pause
        }
    }

    fn about(&mut self, mean: Duration) -> Duration {
        let uniform: f64 = self.random.random_range(1e-3..1.0);
        mean.mul_f64(-uniform.ln())
    }

    fn other(&mut self, members: &[HostId], than: HostId) -> Option<HostId> {
        let others = members.iter().copied().filter(|other| *other != than);
        let others: Vec<HostId> = others.collect();
        others.choose(&mut self.random).copied()
    }

    /// The next fault, with its end.
    pub fn next(&mut self, members: &[HostId], leader: Option<HostId>) -> Agenda {
        let kind = *self
            .kinds
            .choose(&mut self.random)
            .expect("there is a kind at least");
        let any = *members
            .choose(&mut self.random)
            .expect("there is a member at least");
        let lasts = self.lasts;
        let time = self.about(lasts);
        let begin = Duration::ZERO;
        let lead = leader.unwrap_or(any);
        match kind {
            Kind::Kill => vec![(begin, Action::Kill(any)), (time, Action::Start(any))],
            Kind::KillLeader => vec![(begin, Action::Kill(lead)), (time, Action::Start(lead))],
            Kind::PowerOff => vec![(begin, Action::PowerOff(any)), (time, Action::Start(any))],
            Kind::PowerOffAll => {
                let mut agenda: Agenda = members
                    .iter()
                    .map(|member| (begin, Action::PowerOff(*member)))
                    .collect();
                for member in members {
                    let back = self.about(Duration::from_secs(1));
                    agenda.push((back, Action::Start(*member)));
                }
                agenda
            }
            Kind::Stop => vec![
                (begin, Action::Stop(any)),
                (time + Duration::from_secs(2), Action::Start(any)),
            ],
            Kind::Pause => vec![(begin, Action::Pause(any)), (time, Action::Resume(any))],
            Kind::PauseLeader => vec![(begin, Action::Pause(lead)), (time, Action::Resume(lead))],
            Kind::Isolate => {
                let pairs = members.iter().filter(|other| **other != any);
                let pairs: Vec<(HostId, HostId)> = pairs
                    .flat_map(|other| [(any, *other), (*other, any)])
                    .collect();
                cut(&pairs, time)
            }
            Kind::Cut | Kind::CutOneWay => {
                let others: Vec<HostId> = members
                    .iter()
                    .copied()
                    .filter(|other| *other != any)
                    .collect();
                let Some(other) = self.other(members, any) else {
                    return Vec::new();
                };
                if kind == Kind::Cut {
                    cut(&[(any, other), (other, any)], time)
                } else if self.random.random_bool(0.5) {
                    cut(&[(any, other)], time)
                } else {
                    // Heard by nobody, hears everybody.
                    let pairs: Vec<_> = others.iter().map(|other| (any, *other)).collect();
                    cut(&pairs, time)
                }
            }
            Kind::Break => match self.other(members, any) {
                Some(other) => vec![(begin, Action::Break(any, other))],
                None => Vec::new(),
            },
            Kind::Proxy => {
                let others = members.iter().filter(|other| **other != any);
                others
                    .map(|other| (begin, Action::Break(any, *other)))
                    .collect()
            }
            Kind::LoseAnswers => {
                // Most is said between the leader and the others.
                let asks = self.other(members, lead);
                let Some(asks) = asks else {
                    return Vec::new();
                };
                let (from, to) = match self.random.random_bool(0.8) {
                    true => (lead, asks),
                    false => (asks, lead),
                };
                // So that there are new connections.
                vec![
                    (begin, Action::Break(from, to)),
                    (begin, Action::Swallow(from, to)),
                    (time, Action::Pass(from, to)),
                ]
            }
            Kind::Weather => {
                let slow = if self.random.random_bool(0.5) {
                    Slowness::Far
                } else {
                    Slowness::Lossy
                };
                vec![
                    (begin, Action::Weather(slow)),
                    (time, Action::Weather(Slowness::Calm)),
                ]
            }
            Kind::SlowDisk => {
                let slow = Duration::from_millis(self.random.random_range(10..200));
                vec![
                    (begin, Action::DiskLatency(any, slow)),
                    (time, Action::DiskLatency(any, Duration::from_millis(1))),
                ]
            }
            Kind::StallDisk => vec![(begin, Action::DiskStall(any, time))],
            Kind::FailDisk => vec![
                (begin, Action::DiskFails(any)),
                (time + Duration::from_secs(1), Action::Start(any)),
            ],
            Kind::BackInTime => {
                // Alone, nobody else could know.
                if members.len() < 3 {
                    return Vec::new();
                }
                let which = match self.random.random_bool(0.3) {
                    true => lead,
                    false => any,
                };
                let ends = COPY_AGE + time.min(COPY_AGE);
                vec![
                    (begin, Action::Copy(which)),
                    (ends, Action::Kill(which)),
                    (ends, Action::PutBack(which)),
                    (ends + Duration::from_secs(1), Action::Start(which)),
                ]
            }
            Kind::Skew => {
                let millis = self.random.random_range(-3_600_000..3_600_000);
                vec![(begin, Action::Skew(any, millis))]
            }
        }
    }
}

fn cut(pairs: &[(HostId, HostId)], time: Duration) -> Agenda {
    let cut = pairs
        .iter()
        .map(|(from, to)| (Duration::ZERO, Action::Cut(*from, *to)));
    let join = pairs
        .iter()
        .map(|(from, to)| (time, Action::Join(*from, *to)));
    cut.chain(join).collect()
}
