//! Compiles the `.proto` files without protoc. `bytes` fields become `Bytes`, so that a decoded value shares the
//! receive buffer; whoever keeps such a value longer than the request copies it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        ["etcd/kv.proto", "etcd/rpc.proto", "coord/peer.proto"],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
