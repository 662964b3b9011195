//! Compiles the `.proto` files in Rust: building needs no `protoc`.

use std::path::Path;

use prost::Message as _;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "quipu/v1/error.proto",
            "quipu/v1/cursors.proto",
            "quipu/v1/records.proto",
            "quipu/v1/cluster.proto",
            "quipu/v1/operator.proto",
            "quipu/v1/reader_groups.proto",
            "quipu/peer/v1/peer.proto",
            "quipu/stored/v1/stored.proto",
        ],
        ["proto"],
    )?;
    write_descriptors(&files)?;
    tonic_prost_build::configure()
        // Payloads are slices of what was received, not copies.
        .bytes(".")
        // Written without a copy of its batches.
        .extern_path(".quipu.v1.ReadResponse", "crate::read_response::ReadResponse")
        // The one kind that is large: every error would be as large as it is.
        .boxed(".quipu.v1.Error.kind.log_exists")
        .compile_fds(files)?;
    Ok(())
}

/// Keeps what describes the public API, for those who ask a node what it serves.
fn write_descriptors(files: &FileDescriptorSet) -> Result<(), Box<dyn std::error::Error>> {
    let public = files.file.iter().filter(|file| file.package() == "quipu.v1").cloned().collect();
    let directory = std::env::var("OUT_DIR")?;
    let set = FileDescriptorSet { file: public };
    std::fs::write(Path::new(&directory).join("quipu.v1.descriptors"), set.encode_to_vec())?;
    Ok(())
}
