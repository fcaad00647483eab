//! The words that people see: status, conditions and events. Pure, from the same values that were decided on.
//!
//! One function per condition; the sentence in it comes from the plan. Nothing here is read back to decide anything, but
//! for `record`, which is only ever added to. This room writes nothing itself: `controllers/tell` does.

mod conditions;
mod events;
mod members;
mod record;
mod spread;
mod status;
mod storage;

pub use events::{event, warnings};
pub use status::{is_worth_writing, status, status_patch};

use crate::observe::{Observed, Refusal};
use crate::plan::Plan;
use crate::validate::{Desired, Problem};

/// The outcome of a pass.
pub enum Outcome<'a> {
    /// The spec could be acted on.
    Planned {
        /// The spec.
        desired: &'a Desired,
        /// The plan that is carried out.
        plan: &'a Plan,
        /// Refusals that a person should know of.
        refusals: &'a [Refusal],
    },
    /// It could not; nothing is touched.
    Invalid(&'a [Problem]),
}

/// Everything a status is made of.
pub struct StatusInput<'a> {
    /// The cluster's name.
    pub name: &'a str,
    /// The spec's generation.
    pub generation: Option<i64>,
    /// The observation.
    pub observed: &'a Observed,
    /// The outcome.
    pub outcome: Outcome<'a>,
}
