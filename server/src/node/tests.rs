//! A member's data directory as a whole: the outcome of a start on a damaged one, or on one that a power cut left
//! behind.

mod damage;
mod member;
mod power_cut;
mod recording;
mod told;
