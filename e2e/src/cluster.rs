//! Coord clusters as tests see them: however one runs, a test asks the same things of it.

pub mod kubernetes;
