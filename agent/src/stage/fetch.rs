//! Fetching an artifact from the coordinator: its manifest, then every file that is not here yet, in one call.

use std::collections::BTreeSet;
use std::time::Duration;

use darwin_proto::MAX_MESSAGE_BYTES;
use darwin_proto::v1::artifacts_client::ArtifactsClient;
use darwin_proto::v1::download_response::Piece;
use darwin_proto::v1::{DownloadRequest, DownloadResponse};
use darwin_shared::artifact::{MAX_FILE_BYTES, Manifest, Node};
use darwin_shared::ids::Digest;
use darwin_shared::state::{FailureCause, Stage};
use tonic::Code;
use tonic::transport::Channel;

use super::blobs::{BlobError, Blobs, Incoming};
use super::{Connection, Unready};

/// Blobs asked for in one call; the protocol's bound.
const MAX_ASKED: usize = 10_000;
/// The largest manifest: 200,000 entries of 300 bytes.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// How often a broken download is tried again while the coordinator is there; what came whole is not fetched again.
const MAX_TRIES: u32 = 5;
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// What can go wrong on the way.
#[derive(Debug)]
enum Fault {
    /// Worth another try.
    Passing(String),
    /// Not here and not later.
    Lacking(String),
    /// Our own disk.
    Disk(String),
}

/// The artifact's manifest, with every file of it in `blobs`. Waits for a coordinator as long as there is none.
pub(super) async fn fetch(
    artifact: Digest,
    blobs: &Blobs,
    mut connection: Connection,
) -> Result<Manifest, Unready> {
    let mut tries = 0;
    loop {
        let channel = connected(&mut connection).await?;
        match attempt(artifact, blobs, channel).await {
            Ok(manifest) => return Ok(manifest),
            Err(Unfetched::Fault(Fault::Passing(why))) => {
                tries += 1;
                if tries >= MAX_TRIES {
                    return Err(Unready::Box(format!(
                        "artifact {} cannot be fetched: {why}",
                        artifact.short()
                    )));
                }
                tracing::warn!(artifact = %artifact.short(), why, "fetching again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(Unfetched::Fault(Fault::Lacking(why) | Fault::Disk(why))) => return Err(Unready::Box(why)),
            Err(Unfetched::Bad(why)) => {
                return Err(Unready::Candidate(Stage::Fetch, FailureCause::BadArtifact(why), String::new()));
            }
        }
    }
}

enum Unfetched {
    Fault(Fault),
    /// The artifact itself is no good.
    Bad(String),
}

impl From<Fault> for Unfetched {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn connected(connection: &mut Connection) -> Result<Channel, Unready> {
    match connection.wait_for(Option::is_some).await {
        Ok(channel) => channel.clone().ok_or(Unready::Stopped),
        Err(_) => Err(Unready::Stopped),
    }
}

async fn attempt(artifact: Digest, blobs: &Blobs, channel: Channel) -> Result<Manifest, Unfetched> {
    let mut client = ArtifactsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    if !blobs.has(artifact) {
        download(&mut client, blobs, &[artifact], MAX_MANIFEST_BYTES).await?;
    }
    let bytes = blobs
        .read(artifact)
        .ok_or_else(|| Fault::Passing(format!("its manifest {} does not read back", artifact.short())))?;
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| Unfetched::Bad(error.to_string()))?;
    let missing: Vec<Digest> = files(&manifest).into_iter().filter(|digest| !blobs.has(*digest)).collect();
    for asked in missing.chunks(MAX_ASKED) {
        download(&mut client, blobs, asked, MAX_FILE_BYTES).await?;
    }
    Ok(manifest)
}

/// The digests of a manifest's files, each once.
fn files(manifest: &Manifest) -> BTreeSet<Digest> {
    let digest = |node: &Node| match node {
        Node::File { digest, .. } => Some(*digest),
        Node::Link { .. } => None,
    };
    manifest.entries().iter().filter_map(|entry| digest(&entry.node)).collect()
}

async fn download(
    client: &mut ArtifactsClient<Channel>,
    blobs: &Blobs,
    digests: &[Digest],
    most_bytes: u64,
) -> Result<(), Fault> {
    let request =
        DownloadRequest { digests: digests.iter().map(|digest| digest.as_bytes().to_vec().into()).collect() };
    let mut stream = client.download(request).await.map_err(|status| fault_of(&status))?.into_inner();
    let mut awaited = digests.iter();
    let mut incoming: Option<Incoming> = None;
    while let Some(DownloadResponse { piece }) = stream.message().await.map_err(|status| fault_of(&status))? {
        match piece {
            Some(Piece::Header(header)) => {
                finish(incoming.take())?;
                let digest = *awaited.next().ok_or_else(|| odd("more blobs than were asked for"))?;
                if header.digest[..] != digest.as_bytes()[..] || header.size_bytes > most_bytes {
                    return Err(odd("another blob than the one asked for"));
                }
                incoming = Some(blobs.receive(digest, header.size_bytes).map_err(|error| disk(&error))?);
            }
            Some(Piece::Chunk(chunk)) => {
                let blob = incoming.as_mut().ok_or_else(|| odd("bytes that belong to no blob"))?;
                blob.write(&chunk).map_err(blob_fault)?;
            }
            None => return Err(odd("a piece that is neither header nor bytes")),
        }
    }
    finish(incoming.take())?;
    match awaited.next() {
        None => Ok(()),
        Some(digest) => Err(Fault::Passing(format!("the coordinator did not send blob {}", digest.short()))),
    }
}

fn finish(incoming: Option<Incoming>) -> Result<(), Fault> {
    incoming.map_or(Ok(()), |blob| blob.finish().map(|_| ()).map_err(blob_fault))
}

fn odd(what: &str) -> Fault {
    Fault::Passing(format!("the coordinator sent {what}"))
}

fn disk(error: &std::io::Error) -> Fault {
    Fault::Disk(format!("the cache of artifacts: {error}; free space under `state_dir` or lower `cache_max`"))
}

fn blob_fault(error: BlobError) -> Fault {
    match error {
        BlobError::Io(error) => disk(&error),
        wrong @ (BlobError::Length(_) | BlobError::Content(_)) => Fault::Passing(wrong.to_string()),
    }
}

fn fault_of(status: &tonic::Status) -> Fault {
    match status.code() {
        Code::NotFound => {
            Fault::Lacking(format!("the coordinator no longer has the artifact: {}", status.message()))
        }
        _ => Fault::Passing(format!("{}: {}", status.code(), status.message())),
    }
}
