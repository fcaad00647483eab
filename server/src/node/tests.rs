//! A member's data directory as a whole: what a start makes of one that is damaged, or that a power cut left behind.

mod damage;
mod member;
mod power_cut;
mod recording;
mod told;
