//! The Coord operator: it keeps Coord clusters on Kubernetes as their CoordCluster objects say.
//!
//! A pass reads as six verbs, in this order, and values go one way:
//!
//! ```text
//! controllers/pass      one pass over one CoordCluster; controllers/cluster wires it to watches and a queue
//!   observe/            all reads  -> Observed, one plain value
//!   validate            (CR, Observed) -> Desired, or named problems
//!   plan/               (Desired, Observed, now) -> Plan { children, step, because }   pure, no I/O
//!   writes              (Plan, Observed, Desired, now) -> the calls of the pass, in order   pure
//!   report/             conditions, member rows, events, and the record that is read back   pure
//!   execute/            sends each of them: children by server-side apply, then at most one step
//! resources/            what was asked -> Kubernetes objects
//! model/                the words that all of these use: numbers, names, labels, the quorum, hashes
//! crd/                  the CoordCluster type; crds/ is generated from it
//! member_client         etcd cluster and maintenance calls to members, a deadline on each
//! leader                one operator acts at a time (Lease), and knows until when
//! explain               prints what is seen and planned, touching nothing
//! run                   wires it all; http, metrics, telemetry, cli, context beside it
//! ```
//!
//! `observe` and `execute` talk to members, and to the API server about everything but the CoordCluster itself: that is
//! read and its status and events are written by `controllers`, and `leader` keeps its Lease. `plan`, `validate`, `writes`,
//! `resources`, `report` and `model` know no client, no clock and no randomness. Nothing waits inside a pass: what is not
//! there yet is asked again in the next one. `operator/tests/layering.rs` holds the code to this.
//!
//! To find one's way: a decision is one file in `plan/`, its sentence stands beside it; what must never happen is in
//! `tests/plan_any_state.rs`.

pub mod cli;
pub mod context;
pub mod controllers;
pub mod crd;
pub mod execute;
pub mod explain;
pub mod http;
pub mod leader;
pub mod member_client;
pub mod metrics;
pub mod model;
pub mod observe;
pub mod plan;
pub mod report;
pub mod resources;
pub mod run;
pub mod telemetry;
pub mod validate;
pub mod writes;
