//! Where the time of a call goes: moments that rooms mark on its way.
//!
//! They are kept with the task that makes the call, for the door that began it; a room that marks one knows neither. Outside
//! of a call marking does nothing. A mark costs a look at the clock, so that every call can have them and only a slow one
//! is told of.

use std::cell::RefCell;
use std::time::Duration;

use crate::clock::Moment;
use crate::go_duration;

/// The step in which a change was applied; rooms name the others where they mark them.
pub const APPLIED: &str = "applied";

/// Later ones are left out: no way has more.
const STEPS_MAX: usize = 8;

tokio::task_local! {
    static STEPS: RefCell<Steps>;
}

/// The way of one call: each step with the moment it ended.
#[derive(Clone, Debug)]
pub struct Steps {
    began: Moment,
    list: [Option<(&'static str, Moment)>; STEPS_MAX],
}

/// Makes a call; also answers the steps that were marked meanwhile.
pub async fn timed<F: Future>(call: F) -> (F::Output, Steps) {
    let steps = RefCell::new(Steps::begin(Moment::now()));
    let timed = async {
        let answer = call.await;
        (answer, STEPS.with(|steps| steps.borrow().clone()))
    };
    STEPS.scope(steps, timed).await
}

/// A step of this task's call ends now. One that was the last before goes on until now.
pub fn mark(name: &'static str) {
    // An error means that this is nobody's call.
    let _ = STEPS.try_with(|steps| steps.borrow_mut().add(name, Moment::now()));
}

/// A step of this task's call ended then.
pub fn mark_at(name: &'static str, moment: Moment) {
    let _ = STEPS.try_with(|steps| steps.borrow_mut().add(name, moment));
}

impl Steps {
    fn begin(began: Moment) -> Self {
        let list = [None; STEPS_MAX];
        Self { began, list }
    }

    fn add(&mut self, name: &'static str, moment: Moment) {
        let free = self.list.iter().position(Option::is_none);
        let free = free.unwrap_or(STEPS_MAX);
        let last = free
            .checked_sub(1)
            .and_then(|last| self.list[last].as_mut());
        match last {
            Some((last, until)) if *last == name => *until = moment,
            _ if free < STEPS_MAX => self.list[free] = Some((name, moment)),
            _ => {}
        }
    }

    /// How long the call has taken.
    pub fn took(&self, now: Moment) -> Duration {
        now.since(self.began)
    }

    /// How long the step of that name took, if it was made.
    pub fn of(&self, name: &str) -> Option<Duration> {
        let mut all = self.each();
        all.find_map(|(step, took)| (step == name).then_some(took))
    }

    /// All of them with how long each took, and what came behind the last, as one line.
    pub fn text(&self, now: Moment) -> String {
        let last = self.list.iter().flatten().last();
        let last = last.map_or(self.began, |(_, until)| *until);
        let rest = ("answered", now.since(last));
        let parts = self.each().chain([rest]);
        let parts = parts.map(|(name, took)| format!("{name} {}", go_duration::text(took)));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let mut last = self.began;
        self.list.iter().flatten().map(move |(name, until)| {
            let took = until.since(last);
            last = last.max(*until);
            (*name, took)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_step_is_told_with_its_part_of_the_time() {
        let wait = |millis| tokio::time::sleep(Duration::from_millis(millis));
        mark("nobody's");
        let (answer, steps) = timed(async {
            wait(2).await;
            mark("proposed");
            wait(300).await;
            mark("read");
            wait(5).await;
            mark("read");
            wait(7).await;
            9
        })
        .await;
        let now = Moment::now();
        assert_eq!(answer, 9);
        assert_eq!(steps.text(now), "proposed 2ms, read 305ms, answered 7ms");
        assert_eq!(steps.of("read"), Some(Duration::from_millis(305)));
        assert_eq!(
            (steps.of("nobody's"), steps.took(now)),
            (None, Duration::from_millis(314))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn more_steps_than_there_is_room_for_are_left_out() {
        const NAMES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let (_, steps) = timed(async { NAMES.into_iter().for_each(mark) }).await;
        assert_eq!(steps.each().count(), STEPS_MAX);
    }
}
