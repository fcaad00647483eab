//! The Coord operator: it keeps Coord clusters on Kubernetes as their CoordCluster objects say.
//!
//! A pass reads as six verbs, in this order, and values go one way:
//!
//! ```text
//! controllers/cluster   one pass per CoordCluster: observe, validate, plan, write, report, execute
//!   observe/            all reads  -> Observed, one plain value
//!   validate            (CR, Observed) -> Desired, or named problems
//!   plan/               (Desired, Observed, now) -> Plan { children, step, because }   pure, no I/O
//!   writes              (Plan, Observed, Desired, now) -> the calls of the pass, in order   pure
//!   report/             conditions, member rows, events
//!   execute/            sends each of them: children by server-side apply, then at most one step
//! build/                spec -> Kubernetes objects; names, labels, the template hash
//! crd/                  the CoordCluster type; crds/ is generated from it
//! member_client         etcd cluster and maintenance calls to members, a deadline on each
//! leader                one operator acts at a time (Lease), and knows until when
//! explain               prints what is seen and planned, touching nothing
//! run                   wires it all; http, metrics, telemetry, cli, context beside it
//! ```
//!
//! `plan` names no kube and no tonic; only `observe` and `execute` talk to the API server and to members. Nothing
//! waits inside a pass: what is not there yet is asked again in the next one.

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
