//! Blobs over the wire: what is lacking, what is taken, what is given back, what is refused.

use bytes::Bytes;
use darwin_proto::{MAX_CHUNK_BYTES, v1};
use darwin_shared::artifact::{Entry, Manifest, Node};
use darwin_shared::ids::Digest;
use darwin_shared::spec::{JobSpec, Source, Variant, Work};
use tonic::{Code, Status};

use crate::support::{Place, quick, soon};

fn wire(digest: Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

fn header(digest: Digest, size_bytes: usize) -> v1::UploadRequest {
    let header = v1::BlobHeader { digest: wire(digest), size_bytes: size_bytes as u64 };
    v1::UploadRequest { piece: Some(v1::upload_request::Piece::Header(header)) }
}

fn chunk(bytes: &[u8]) -> v1::UploadRequest {
    v1::UploadRequest { piece: Some(v1::upload_request::Piece::Chunk(Bytes::copy_from_slice(bytes))) }
}

/// A blob as an upload has it.
fn pieces(bytes: &[u8]) -> Vec<v1::UploadRequest> {
    let chunks = bytes.chunks(MAX_CHUNK_BYTES).map(chunk);
    std::iter::once(header(Digest::of(bytes), bytes.len())).chain(chunks).collect()
}

async fn upload(place: &Place, pieces: Vec<v1::UploadRequest>) -> Result<u64, Status> {
    let sent = place.artifacts().upload(futures::stream::iter(pieces)).await;
    sent.map(|answer| answer.into_inner().blobs)
}

async fn missing(place: &Place, digests: &[Digest]) -> Vec<Digest> {
    let request = v1::FindMissingRequest { digests: digests.iter().copied().map(wire).collect() };
    let answer = place.artifacts().find_missing(request).await.unwrap().into_inner();
    answer.missing.iter().map(|bytes| Digest::from_bytes(bytes[..].try_into().unwrap())).collect()
}

async fn download(place: &Place, digests: &[Digest]) -> Result<Vec<Vec<u8>>, Status> {
    let request = v1::DownloadRequest { digests: digests.iter().copied().map(wire).collect() };
    let mut stream = place.artifacts().download(request).await?.into_inner();
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    while let Some(message) = soon("a piece", stream.message()).await? {
        match message.piece.unwrap() {
            v1::download_response::Piece::Header(_) => blobs.push(Vec::new()),
            v1::download_response::Piece::Chunk(chunk) => blobs.last_mut().unwrap().extend_from_slice(&chunk),
        }
    }
    Ok(blobs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_uploaded_is_no_longer_missing_and_comes_back_whole() {
    let mut place = Place::new().await;
    let large: Vec<u8> = (0..3 * MAX_CHUNK_BYTES + 17).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let blobs: [&[u8]; 3] = [b"", b"small", &large];
    let digests = blobs.map(Digest::of);
    assert_eq!(missing(&place, &digests).await, digests);
    let all = blobs.iter().flat_map(|blob| pieces(blob)).collect();
    assert_eq!(upload(&place, all).await.unwrap(), 3);
    assert_eq!(missing(&place, &digests).await, []);
    // Again is no harm, and the same digest asked for twice comes twice.
    assert_eq!(upload(&place, pieces(b"small")).await.unwrap(), 1);
    let wanted = [digests[2], digests[1], digests[1], digests[0]];
    let given = download(&place, &wanted).await.unwrap();
    assert!(given == [&large[..], b"small", b"small", b""]);
    place.restart().await;
    assert!(download(&place, &digests).await.unwrap() == blobs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_what_was_announced_are_refused_and_what_came_before_is_kept() {
    let place = Place::new().await;
    let (good, bad) = (Digest::of(b"good"), Digest::of(b"bad"));
    for wrong in [
        vec![header(bad, 3), chunk(b"BAD")],
        vec![header(bad, 3), chunk(b"ba")],
        vec![header(bad, 3), chunk(b"bad"), chunk(b"!")],
        vec![header(bad, 3)],
    ] {
        let all = pieces(b"good").into_iter().chain(wrong).collect();
        let refused = upload(&place, all).await.unwrap_err();
        assert_eq!(refused.code(), Code::DataLoss, "{refused}");
        assert!(refused.message().contains(&bad.short()), "{refused}");
        assert_eq!(missing(&place, &[good, bad]).await, [bad]);
    }
    let incoming = std::fs::read_dir(place.folder.path().join("blobs/incoming")).unwrap();
    assert_eq!(incoming.count(), 0, "what was refused is left lying about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests_are_refused_by_what_is_odd() {
    let place = Place::new().await;
    let early = upload(&place, vec![chunk(b"x")]).await.unwrap_err();
    assert!(
        early.code() == Code::InvalidArgument && early.message().contains("before any header"),
        "{early}"
    );
    let empty = upload(&place, vec![v1::UploadRequest { piece: None }]).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    let huge = upload(&place, vec![header(Digest::of(b""), usize::MAX)]).await.unwrap_err();
    assert_eq!(huge.code(), Code::InvalidArgument, "{huge}");
    let short = v1::FindMissingRequest { digests: vec![Bytes::from_static(&[1; 31])] };
    let refused = place.artifacts().find_missing(short).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("32 bytes"), "{refused}");
    let many = v1::FindMissingRequest { digests: vec![wire(Digest::of(b"")); 10_001] };
    assert_eq!(place.artifacts().find_missing(many).await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = Digest::of(b"unknown");
    let refused = download(&place, &[unknown]).await.unwrap_err();
    assert!(
        refused.code() == Code::NotFound && refused.message().contains(&unknown.to_string()),
        "{refused}"
    );
}

fn measure(source: Source) -> JobSpec {
    let variant = Variant { label: "main@1a2b3c4".to_owned(), source };
    JobSpec { work: Work::Measure { variant }, ..quick() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_taken_only_when_all_of_its_artifact_is_here() {
    let place = Place::new().await;
    let file = |path: &str, bytes: &[u8]| Entry {
        path: path.to_owned(),
        node: Node::File { digest: Digest::of(bytes), size_bytes: bytes.len() as u64, executable: false },
    };
    let manifest =
        Manifest::new(vec![file("bench.py", b"print()"), file("data/orders.bin", b"1234")]).unwrap();
    let spec = measure(Source::Tree(manifest.digest()));
    let refused = place.try_submit("", spec.clone()).await.unwrap_err();
    assert!(
        refused.code() == Code::FailedPrecondition && refused.message().contains("main@1a2b3c4"),
        "{refused}"
    );

    upload(&place, pieces(&manifest.to_bytes())).await.unwrap();
    upload(&place, pieces(b"print()")).await.unwrap();
    let refused = place.try_submit("", spec.clone()).await.unwrap_err();
    assert!(
        refused.code() == Code::FailedPrecondition && refused.message().contains("data/orders.bin"),
        "{refused}"
    );

    upload(&place, pieces(b"1234")).await.unwrap();
    place.try_submit("", spec).await.unwrap();

    upload(&place, pieces(b"no manifest")).await.unwrap();
    let refused = place.try_submit("", measure(Source::Tree(Digest::of(b"no manifest")))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}
