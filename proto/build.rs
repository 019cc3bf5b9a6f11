//! Compiles the protocol without protoc: protox reads the files, tonic writes the Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["agents", "artifacts", "jobs", "link", "outcome", "spec", "verdicts"]
        .map(|name| format!("darwin/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let set = protox::compile(&files, ["."])?;
    let descriptor = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("darwin_v1.bin");
    std::fs::write(&descriptor, protox::prost::Message::encode_to_vec(&set))?;
    tonic_prost_build::configure().bytes(".").compile_fds(set)?;
    Ok(())
}
