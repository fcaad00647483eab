//! Compiles the `.proto` files without protoc. `bytes` fields become `Bytes`, so that a decoded value shares the
//! receive buffer; a room that keeps such a value longer than the request copies it.

use std::fmt::Write;
use std::path::PathBuf;

use protox::Compiler;
use protox::prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

/// The option that says how a method is called over HTTP.
const HTTP: &str = "google.api.http";
/// Its fields: where a call is posted, and other rules for the same method.
const POST: &str = "post";
const OTHERS: &str = "additional_bindings";

/// The definitions of what clients may call.
const OF_CLIENTS: [&str; 4] = [
    "etcd/rpc.proto",
    "etcd/lock.proto",
    "etcd/election.proto",
    "grpc/health.proto",
];
/// Only their methods are of interest: what the messages are is their library's.
const OF_LIBRARIES: [&str; 2] = ["grpc/reflection_v1.proto", "grpc/reflection_v1alpha.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = protox::compile(
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
    // They are about the definitions; no program speaks them.
    files
        .file
        .retain(|file| !file.package().starts_with("google."));
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    let of_clients = pool(&OF_CLIENTS)?;
    let to = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(to, of_clients.encode_to_vec())?;
    let to = PathBuf::from(std::env::var("OUT_DIR")?).join("methods.rs");
    std::fs::write(to, methods(&[of_clients, pool(&OF_LIBRARIES)?])?)?;
    Ok(())
}

/// The definitions with their options, which `protox::compile` would leave out.
fn pool(files: &[&str]) -> Result<DescriptorPool, protox::Error> {
    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(files)?;
    Ok(compiler.descriptor_pool())
}

/// The methods that clients may call, as a Rust table.
fn methods(pools: &[DescriptorPool]) -> Result<String, Box<dyn std::error::Error>> {
    let mut methods: Vec<(MethodDescriptor, Vec<String>)> = Vec::new();
    for pool in pools {
        for method in pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
        {
            let places = places(pool, &method)?;
            methods.push((method, places));
        }
    }
    let mut table = format!("pub const METHODS: [Method; {}] = [\n", methods.len());
    for (method, posts) in methods {
        let (service, name) = (method.parent_service().full_name(), method.name());
        writeln!(
            table,
            "    Method {{ path: \"/{service}/{name}\", service: \"{service}\", name: \"{name}\", \
             client_streaming: {}, server_streaming: {}, posts: &{posts:?} }},",
            method.is_client_streaming(),
            method.is_server_streaming(),
        )?;
    }
    table.push_str("];\n");
    Ok(table)
}

/// Where a call of a method is posted over HTTP. Ours are all without variables, with the message as the body.
fn places(
    pool: &DescriptorPool,
    method: &MethodDescriptor,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let Some(http) = pool.get_extension_by_name(HTTP) else {
        return Ok(Vec::new());
    };
    let options = method.options();
    if !options.has_extension(&http) {
        return Ok(Vec::new());
    }
    let rule = options.get_extension(&http);
    let rule = rule.as_message().ok_or("a rule is a message")?;
    let mut posts = vec![post(rule)?];
    if let Some(others) = rule.get_field_by_name(OTHERS) {
        for other in others.as_list().unwrap_or_default() {
            posts.push(post(other.as_message().ok_or("a rule is a message")?)?);
        }
    }
    Ok(posts)
}

fn post(rule: &DynamicMessage) -> Result<String, Box<dyn std::error::Error>> {
    let post = rule.get_field_by_name(POST);
    let post = post.as_deref().and_then(Value::as_str).unwrap_or_default();
    let is_plain = post.starts_with('/') && !post.contains(['{', '*', ':']);
    is_plain
        .then(|| post.to_owned())
        .ok_or_else(|| format!("no plain path to post to: '{post}'").into())
}
