//! The wire: `darwin/v1` over gRPC, and the conversions between its messages and the domain's types.
//!
//! Messages are what any peer may send; the domain's types are what holds. [`convert`] is the one door between
//! them: into the domain by `TryFrom`, which refuses by field, and out of it by `From`.

pub mod convert;

/// The messages, clients and servers of `darwin/v1`, generated from the `.proto` files.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::large_enum_variant,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated: the .proto files are where it is written and documented"
)]
pub mod v1 {
    tonic::include_proto!("darwin.v1");
}

/// The protocol's description, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/darwin_v1.bin"));

/// The major version: a peer with another one is refused by name.
pub const PROTOCOL_MAJOR: u32 = 1;
/// The minor version: a peer with a lower one lacks fields that are optional.
pub const PROTOCOL_MINOR: u32 = 0;
/// The largest message on any stream: a round of 10,000 observations of 100 bytes fits four times.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The largest chunk of a blob.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
