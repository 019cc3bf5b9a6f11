//! Sends the blobs of an artifact that the coordinator lacks, and no others.

use std::sync::{Arc, Mutex, PoisonError};

use darwin_proto::v1::artifacts_client::ArtifactsClient;
use darwin_proto::v1::upload_request::Piece;
use darwin_proto::v1::{BlobHeader, FindMissingRequest, UploadRequest};
use darwin_proto::{MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES};
use darwin_shared::ids::Digest;
use futures::Stream;
use tonic::transport::Channel;

use crate::failure::{Failed, call};
use crate::pack::{BlobSource, Blobs};

/// How many digests one call may ask for, as the protocol says.
const MAX_ASKED: usize = 10_000;

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// How many blobs.
    pub blobs: usize,
    /// What they weigh together, in bytes.
    pub size_bytes: u64,
}

/// Asks what is lacking and sends that.
pub(crate) async fn send(channel: Channel, url: &str, blobs: &Blobs) -> Result<Sent, Failed> {
    if blobs.is_empty() {
        return Ok(Sent::default());
    }
    let mut client = ArtifactsClient::new(channel).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let all: Vec<Digest> = blobs.digests().copied().collect();
    let mut missing = Vec::new();
    for asked in all.chunks(MAX_ASKED) {
        let digests = asked.iter().map(|digest| digest.as_bytes().to_vec().into()).collect();
        let answer =
            client.find_missing(FindMissingRequest { digests }).await.map_err(call(url))?.into_inner();
        for digest in answer.missing {
            missing.push(known(&digest, blobs)?);
        }
    }
    if missing.is_empty() {
        return Ok(Sent::default());
    }
    let sent = Sent {
        blobs: missing.len(),
        size_bytes: missing.iter().map(|(_, source)| source.size_bytes()).sum(),
    };
    let unreadable = Arc::new(Mutex::new(None));
    let answer = client.upload(pieces(missing, Arc::clone(&unreadable))).await;
    // A file that could not be read ends the stream early; that is the cause, whatever the coordinator says of it.
    if let Some(error) = unreadable.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(Failed::usage(error));
    }
    answer.map_err(call(url))?;
    Ok(sent)
}

fn known(digest: &[u8], blobs: &Blobs) -> Result<(Digest, BlobSource), Failed> {
    let bytes = <[u8; 32]>::try_from(digest).map_err(|e| Failed::protocol("a digest", e))?;
    let digest = Digest::from_bytes(bytes);
    let source = blobs.get(&digest).ok_or_else(|| Failed::protocol("a digest", "nobody asked for it"))?;
    Ok((digest, source.clone()))
}

struct Sending {
    rest: std::vec::IntoIter<(Digest, BlobSource)>,
    current: Option<(BlobSource, u64)>,
    unreadable: Arc<Mutex<Option<String>>>,
}

/// A header, then the blob in chunks, then the next header.
fn pieces(
    missing: Vec<(Digest, BlobSource)>,
    unreadable: Arc<Mutex<Option<String>>>,
) -> impl Stream<Item = UploadRequest> {
    let sending = Sending { rest: missing.into_iter(), current: None, unreadable };
    futures::stream::unfold(sending, |mut sending| async move {
        let piece = sending.next_piece()?;
        Some((UploadRequest { piece: Some(piece) }, sending))
    })
}

impl Sending {
    fn next_piece(&mut self) -> Option<Piece> {
        if let Some((source, offset)) = self.current.take()
            && offset < source.size_bytes()
        {
            return match source.read_at(offset, MAX_CHUNK_BYTES) {
                Ok(chunk) => {
                    let next = offset + chunk.len() as u64;
                    self.current = Some((source, next));
                    Some(Piece::Chunk(chunk))
                }
                Err(error) => {
                    let what = match &source {
                        BlobSource::Disk { path, .. } => path.display().to_string(),
                        BlobSource::Memory(_) | BlobSource::Spooled { .. } => "the packed files".to_owned(),
                    };
                    let text = format!("cannot read {what}: {error}; did it change while it was being sent?");
                    *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                    None
                }
            };
        }
        let (digest, source) = self.rest.next()?;
        let header =
            BlobHeader { digest: digest.as_bytes().to_vec().into(), size_bytes: source.size_bytes() };
        self.current = Some((source, 0));
        Some(Piece::Header(header))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt as _;

    use super::*;

    fn shape(pieces: &[UploadRequest]) -> Vec<String> {
        pieces
            .iter()
            .map(|request| match request.piece.as_ref().unwrap() {
                Piece::Header(header) => format!("header {}", header.size_bytes),
                Piece::Chunk(chunk) => format!("chunk {}", chunk.len()),
            })
            .collect()
    }

    fn all(missing: Vec<(Digest, BlobSource)>) -> (Vec<String>, Option<String>) {
        let unreadable = Arc::new(Mutex::new(None));
        let pieces: Vec<_> = futures::executor::block_on(pieces(missing, Arc::clone(&unreadable)).collect());
        let unreadable = unreadable.lock().unwrap().take();
        (shape(&pieces), unreadable)
    }

    #[test]
    fn blobs_go_one_after_the_other_in_bounded_chunks() {
        let blob = |len| (Digest::of(&[0]), BlobSource::Memory(Bytes::from(vec![1; len])));
        let (shape, unreadable) = all(vec![blob(3), blob(0), blob(MAX_CHUNK_BYTES + 1)]);
        assert_eq!(shape, ["header 3", "chunk 3", "header 0", "header 1048577", "chunk 1048576", "chunk 1"]);
        assert_eq!(unreadable, None);
    }

    #[test]
    fn a_file_that_shrank_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let gone = BlobSource::Disk { path: path.clone(), size_bytes: 10 };
        let (shape, unreadable) = all(vec![(Digest::of(&[0]), gone)]);
        assert_eq!(shape, ["header 10"]);
        assert!(unreadable.unwrap().contains(&path.display().to_string()));
    }
}
