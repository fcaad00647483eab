//! Compiles the `.proto` files without protoc. `bytes` fields become `Bytes`, so that a decoded value shares the
//! receive buffer; whoever keeps such a value longer than the request copies it.

use std::fmt::Write;
use std::path::PathBuf;

use protox::prost_reflect::{DescriptorPool, MethodDescriptor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "etcd/auth.proto",
            "etcd/kv.proto",
            "etcd/rpc.proto",
            "etcd/lock.proto",
            "etcd/election.proto",
            "coord/peer.proto",
        ],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    let of_clients = protox::compile(
        [
            "etcd/rpc.proto",
            "etcd/lock.proto",
            "etcd/election.proto",
            "grpc/health.proto",
        ],
        ["proto"],
    )?;
    let of_clients = DescriptorPool::from_file_descriptor_set(of_clients)?;
    let to = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(to, of_clients.encode_to_vec())?;
    let to = PathBuf::from(std::env::var("OUT_DIR")?).join("methods.rs");
    std::fs::write(to, methods(&of_clients)?)?;
    Ok(())
}

/// The methods that clients may call, as a Rust table.
fn methods(pool: &DescriptorPool) -> Result<String, std::fmt::Error> {
    let services: Vec<_> = pool.services().collect();
    let methods: Vec<MethodDescriptor> = services
        .iter()
        .flat_map(|service| service.methods())
        .collect();
    let mut table = format!("pub const METHODS: [Method; {}] = [\n", methods.len());
    for method in methods {
        let (service, name) = (method.parent_service().full_name(), method.name());
        writeln!(
            table,
            "    Method {{ path: \"/{service}/{name}\", service: \"{service}\", name: \"{name}\", \
             client_streaming: {}, server_streaming: {} }},",
            method.is_client_streaming(),
            method.is_server_streaming(),
        )?;
    }
    table.push_str("];\n");
    Ok(table)
}
