//! Compiles the `.proto` files in Rust: building needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "quipu/v1/error.proto",
            "quipu/v1/records.proto",
            "quipu/v1/cluster.proto",
            "quipu/peer/v1/peer.proto",
            "quipu/stored/v1/stored.proto",
        ],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        // Payloads are slices of what was received, not copies.
        .bytes(".")
        // The one kind that is large: every error would be as large as it is.
        .boxed(".quipu.v1.Error.kind.log_exists")
        .compile_fds(files)?;
    Ok(())
}
