//! The service of blobs: which are lacking, take them, give them.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use darwin_proto::{MAX_CHUNK_BYTES, v1};
use darwin_shared::artifact::{MAX_FILE_BYTES, Manifest, Node};
use darwin_shared::ids::Digest;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::status::ToStatus;
use crate::stores::{BlobError, BlobSink, Blobs};

/// Digests in one call.
const DIGESTS_MAX: usize = 10_000;
/// Chunks that wait between disk and wire: 4 MiB.
const CHUNKS_AHEAD: usize = 4;
/// Artifacts remembered as whole; forgetting them costs a look at the disk.
const KNOWN_WHOLE_MAX: usize = 10_000;

/// Knows whether an artifact is here, whole.
#[derive(Debug, Clone)]
pub(crate) struct ArtifactCheck {
    blobs: Arc<dyn Blobs>,
    whole: Arc<Mutex<BTreeSet<Digest>>>,
}

impl ArtifactCheck {
    pub(crate) fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, whole: Arc::new(Mutex::new(BTreeSet::new())) }
    }

    /// Refuses an artifact whose manifest or files are not all here.
    pub(crate) async fn check(&self, digest: Digest, label: &str) -> Result<(), Status> {
        if self.lock().contains(&digest) {
            return Ok(());
        }
        let (blobs, label) = (self.blobs.clone(), label.to_owned());
        tokio::task::spawn_blocking(move || look_through(blobs.as_ref(), digest, &label))
            .await
            .map_err(|e| Status::internal(e.to_string()))??;
        let mut whole = self.lock();
        if whole.len() >= KNOWN_WHOLE_MAX {
            whole.clear();
        }
        whole.insert(digest);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Digest>> {
        // The set is whole after any panic: every change to it is one call.
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_through(blobs: &dyn Blobs, digest: Digest, label: &str) -> Result<(), Status> {
    let bytes = match blobs.read(&digest) {
        Ok(bytes) => bytes,
        Err(BlobError::Missing(_)) => {
            return Err(Status::failed_precondition(format!(
                "the artifact of {label} is not here: upload it before submitting"
            )));
        }
        Err(why) => return Err(why.to_status()),
    };
    let manifest = Manifest::from_bytes(&bytes)
        .map_err(|why| Status::invalid_argument(format!("the artifact of {label}: {why}")))?;
    for entry in manifest.entries() {
        match &entry.node {
            Node::File { digest, .. } if !blobs.has(digest) => {
                return Err(Status::failed_precondition(format!(
                    "`{}` of {label} is not here: upload it before submitting",
                    entry.path
                )));
            }
            Node::File { .. } | Node::Link { .. } => {}
        }
    }
    Ok(())
}

/// The service of blobs.
#[derive(Debug, Clone)]
pub(crate) struct ArtifactsService {
    pub(crate) blobs: Arc<dyn Blobs>,
}

fn digest(bytes: &[u8]) -> Result<Digest, Status> {
    let bytes = <[u8; 32]>::try_from(bytes)
        .map_err(|_| Status::invalid_argument(format!("a digest has 32 bytes, not {}", bytes.len())))?;
    Ok(Digest::from_bytes(bytes))
}

fn digests(list: &[Bytes]) -> Result<Vec<Digest>, Status> {
    if list.len() > DIGESTS_MAX {
        return Err(Status::invalid_argument(format!(
            "{} digests in one call; at most {DIGESTS_MAX}",
            list.len()
        )));
    }
    list.iter().map(|bytes| digest(bytes)).collect()
}

/// Puts a blob under its name, off the threads that serve others: it waits for the disk.
async fn finish(writer: Box<dyn BlobSink>) -> Result<(), Status> {
    tokio::task::spawn_blocking(move || writer.finish())
        .await
        .map_err(|e| Status::internal(e.to_string()))?
        .map_err(|e| e.to_status())
}

impl ArtifactsService {
    fn begin(&self, header: &v1::BlobHeader) -> Result<Box<dyn BlobSink>, Status> {
        let digest = digest(&header.digest)?;
        if header.size_bytes > MAX_FILE_BYTES {
            return Err(Status::invalid_argument(format!(
                "blob {} has {} bytes; at most {MAX_FILE_BYTES} are taken",
                digest.short(),
                header.size_bytes
            )));
        }
        self.blobs.begin(digest, header.size_bytes).map_err(|e| e.to_status())
    }

    /// Sends one blob; blocks on the disk and on a slow reader.
    fn send(
        &self,
        digest: Digest,
        out: &mpsc::Sender<Result<v1::DownloadResponse, Status>>,
    ) -> Result<(), Status> {
        use v1::download_response::Piece;
        let send = |piece| {
            let response = v1::DownloadResponse { piece: Some(piece) };
            out.blocking_send(Ok(response)).map_err(|_| Status::cancelled("the reader has gone"))
        };
        let mut blob = self.blobs.open(&digest).map_err(|e| e.to_status())?;
        let header =
            v1::BlobHeader { digest: Bytes::copy_from_slice(digest.as_bytes()), size_bytes: blob.size_bytes };
        send(Piece::Header(header))?;
        let mut left = blob.size_bytes;
        while left > 0 {
            let length = left.min(MAX_CHUNK_BYTES as u64);
            let mut chunk = vec![0; usize::try_from(length).unwrap_or(MAX_CHUNK_BYTES)];
            blob.bytes
                .read_exact(&mut chunk)
                .map_err(|source| BlobError::Unreadable { digest, source }.to_status())?;
            send(Piece::Chunk(chunk.into()))?;
            left -= length;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl v1::artifacts_server::Artifacts for ArtifactsService {
    async fn find_missing(
        &self,
        request: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        let wanted = request.into_inner().digests;
        let list = digests(&wanted)?;
        let missing = wanted.into_iter().zip(list).filter(|(_, digest)| !self.blobs.has(digest));
        Ok(Response::new(v1::FindMissingResponse { missing: missing.map(|(bytes, _)| bytes).collect() }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        use v1::upload_request::Piece;
        let mut pieces = request.into_inner();
        let mut open: Option<Box<dyn BlobSink>> = None;
        let mut blobs = 0;
        while let Some(message) = pieces.message().await? {
            match message.piece {
                Some(Piece::Header(header)) => {
                    if let Some(writer) = open.take() {
                        finish(writer).await?;
                    }
                    blobs += 1;
                    open = Some(self.begin(&header)?);
                }
                Some(Piece::Chunk(chunk)) => {
                    let writer = open
                        .as_mut()
                        .ok_or_else(|| Status::invalid_argument("a chunk came before any header"))?;
                    writer.write(&chunk).map_err(|e| e.to_status())?;
                }
                None => {
                    return Err(Status::invalid_argument("a piece of an upload is neither header nor chunk"));
                }
            }
        }
        if let Some(writer) = open {
            finish(writer).await?;
        }
        Ok(Response::new(v1::UploadResponse { blobs }))
    }

    type DownloadStream = Pin<Box<dyn Stream<Item = Result<v1::DownloadResponse, Status>> + Send>>;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let wanted = digests(&request.into_inner().digests)?;
        let (out, pieces) = mpsc::channel(CHUNKS_AHEAD);
        let service = self.clone();
        // Ends with the stream: when the reader goes, the channel closes and the next send fails.
        tokio::task::spawn_blocking(move || {
            for digest in wanted {
                if let Err(why) = service.send(digest, &out) {
                    // The reader may be gone, then there is no one to tell.
                    let _ = out.blocking_send(Err(why));
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(pieces))))
    }
}
