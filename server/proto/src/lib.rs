//! The wire types that Coord's programs share.
//!
//! Owns the `.proto` files and what is generated from them. It knows no storage, no consensus and no Kubernetes, so
//! that the operator can speak to members without linking the server. [`etcd`] is the public etcd v3 API (field
//! numbers are interface and never change).
#![expect(
    missing_docs,
    reason = "generated code; the .proto files carry the documentation"
)]

pub mod methods;

/// The etcd v3 API.
pub mod etcd {
    /// Key-value pair and event (`mvccpb`).
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    /// Options of users and permissions of roles (`authpb`).
    pub mod authpb {
        tonic::include_proto!("authpb");
    }
    /// Services and messages (`etcdserverpb`).
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
    /// The lock service (`v3lockpb`).
    pub mod v3lockpb {
        tonic::include_proto!("v3lockpb");
    }
    /// The election service (`v3electionpb`).
    pub mod v3electionpb {
        tonic::include_proto!("v3electionpb");
    }
}

/// The descriptors of all that clients may call, as an encoded `FileDescriptorSet`: for tests that make requests of them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The calls between members of a cluster.
pub mod peer {
    tonic::include_proto!("coord.peer.v1");
}
