//! A real Kubernetes of three nodes on this machine, without Docker, for `make up` and the operator tests.
//!
//! Owns: everything that belongs to an *instance*, and an instance has a name. Names, addresses, cgroups and files all
//! derive from it, so two instances run side by side, and taking one down needs nothing but its name.
//! In: a name and the Go module files of `e2e/kubernetes/`. Out: an [`Instance`] with a kubeconfig, and nodes that
//! tests may kill, start, cut off and heal.
//! Must not know: Coord, its operator or its charts. Those are `demo` and `cluster::kubernetes`.
//!
//! Read [`instance`] first: its `up` is the list of steps. Every step asks what is there and then does what is missing,
//! which is why a second `up` changes nothing and an interrupted one can simply be repeated.
//!
//! ```text
//!  host --veth-- [ NAME-net: a bridge ] --veth-- [ NAME-cp ]  etcd, apiserver, controllers, scheduler, proxy
//!                                       --veth-- [ NAME-n1 ]  containerd, kubelet, proxy, pods   zone-a
//!                                       --veth-- [ NAME-n2 ]  ...                                zone-b
//!                                       --veth-- [ NAME-n3 ]  ...                                zone-c
//! ```
//! Each bracket is a network namespace. A machine (control plane or node) is a process tree of its own in one of them:
//! killing its first process is a power cut, taking its link down is a partition.

pub mod addons;
pub mod addresses;
pub mod cgroup;
pub mod control_plane;
pub mod files;
pub mod image;
pub mod instance;
pub mod layout;
pub mod machine;
pub mod network;
pub mod node;
pub mod packages;
pub mod pki;
pub mod run;
pub mod steps;
pub mod supervise;
pub mod tools;

pub use instance::Instance;
pub use layout::{InstanceName, Layout, NODES};
pub use node::Node;
