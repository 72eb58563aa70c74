//! Octets in and out.

use std::fmt;
use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::client::Client;
use crate::core::Core;
use crate::error::Error;
use crate::events::{Events, Resume, Told};
use crate::link::authorize;
use crate::retry::{FIRST_PAUSE, LONGEST_PAUSE, Retry};
use crate::v1::content_service_client::ContentServiceClient;
use crate::v1::{self, ErrorReason};

const CHUNK_OCTETS: usize = 256 << 10;

impl Client {
    /// Sends octets that are too many for one call, from where `source` stands to its end. The answer's `upload_id`
    /// goes into AppendMessage, SubmitMessage or an attachment, within an hour.
    ///
    /// It begins anew when the connection breaks, as long as the client's timeout brings it further. The reason of a
    /// failure is `MessageTooLarge`, `InvalidContent` or `StoreFull`; an error of `source` is that of the error returned.
    pub async fn upload<S>(&self, kind: v1::UploadKind, mut source: S) -> Result<v1::UploadContentResponse, Error>
    where
        S: AsyncRead + AsyncSeek + Unpin + Send,
    {
        let core = &self.core;
        let start = source.stream_position().await.map_err(broken)?;
        let mut retry = Retry::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut progress = Progress { last: Instant::now(), furthest: 0 };
        loop {
            let token = core.session.token();
            let once = upload_once(core, kind, &mut source, &mut progress);
            let failure = tokio::select! {
                outcome = once => match outcome {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                },
                () = core.closed.cancelled() => return Err(Error::closed()),
            };
            if failure.reason() == ErrorReason::SessionExpired && retry.renewal() {
                core.renew(&token, core.deadline(None)).await?;
            } else if !failure.is_temporary() || !retry.wait(&failure, progress.last + core.config.timeout).await {
                return Err(failure);
            }
            source.seek(SeekFrom::Start(start)).await.map_err(broken)?;
        }
    }

    /// Uploads a file; see [`upload`](Self::upload).
    pub async fn upload_file(
        &self,
        kind: v1::UploadKind,
        path: impl AsRef<Path>,
    ) -> Result<v1::UploadContentResponse, Error> {
        self.upload(kind, tokio::fs::File::open(path).await.map_err(broken)?).await
    }

    /// Reads a message of the user's own mailbox, or a section of it (`None`: the whole), as it is stored, chunk by
    /// chunk, and goes on where it was when the connection breaks. The reason of a failure is `MessageNotFound` or
    /// `PartNotFound`.
    pub fn open_content(&self, message_id: i64, section: Option<v1::Section>) -> Content {
        self.open_content_of(0, message_id, section)
    }

    /// [`open_content`](Self::open_content) for any mailbox that the user may read (0: the own).
    pub fn open_content_of(&self, mailbox_id: i64, message_id: i64, section: Option<v1::Section>) -> Content {
        let whole = || v1::Section { kind: v1::SectionKind::Whole.into(), ..Default::default() };
        let section = Some(section.unwrap_or_else(whole));
        let request = v1::ReadContentRequest { mailbox_id, message_id, section };
        Content(Events::new(self.core.clone(), |core, told| read(core, request, told)))
    }

    /// All the octets of a message of the user's own mailbox, or of a section of it (`None`: the whole).
    pub async fn read_content(&self, message_id: i64, section: Option<v1::Section>) -> Result<Vec<u8>, Error> {
        let mut opened = self.open_content(message_id, section);
        let mut octets = Vec::new();
        while let Some(chunk) = opened.next().await {
            octets.extend_from_slice(&chunk?);
        }
        Ok(octets)
    }
}

/// The octets of a message or of a section of it. Dropping it ends the reading, at the server too.
pub struct Content(Events<Bytes>);

impl Content {
    /// The next octets; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        self.0.next().await
    }
}

impl tokio_stream::Stream for Content {
    type Item = Result<Bytes, Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::pin::Pin::new(&mut self.0).poll_next(context)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Content").finish_non_exhaustive()
    }
}

/// How far an upload has come, and when it last came further.
struct Progress {
    last: Instant,
    furthest: u64,
}

fn broken(cause: std::io::Error) -> Error {
    Error::caused(Code::Unknown, cause)
}

async fn upload_once<S: AsyncRead + Unpin>(
    core: &Core,
    kind: v1::UploadKind,
    source: &mut S,
    progress: &mut Progress,
) -> Result<v1::UploadContentResponse, Error> {
    let (chunks, outgoing) = mpsc::channel(1);
    let mut stub = ContentServiceClient::new(core.channel()?.1);
    let request = authorize(ReceiverStream::new(outgoing), &core.session.token());
    let (answer, sent) = tokio::join!(stub.upload_content(request), send(kind, source, progress, chunks));
    sent?; // whether the server has got all: what it has taken of a source that broke is no upload
    Ok(answer?.into_inner())
}

/// Sends all octets, or what the server takes of them.
async fn send<S: AsyncRead + Unpin>(
    kind: v1::UploadKind,
    source: &mut S,
    progress: &mut Progress,
    chunks: mpsc::Sender<v1::UploadContentRequest>,
) -> Result<(), Error> {
    let (mut request, mut done) = (v1::UploadContentRequest { kind: kind.into(), octets: Vec::new() }, 0);
    loop {
        let mut octets = Vec::with_capacity(CHUNK_OCTETS);
        let count = source.take(CHUNK_OCTETS as u64).read_to_end(&mut octets).await.map_err(broken)?;
        if count == 0 && done > 0 {
            return Ok(());
        }
        request.octets = octets;
        if chunks.send(std::mem::take(&mut request)).await.is_err() {
            return Ok(()); // the answer says why
        }
        done += count as u64;
        if done > progress.furthest {
            *progress = Progress { last: Instant::now(), furthest: done };
        }
        if count < CHUNK_OCTETS {
            return Ok(());
        }
    }
}

async fn read(core: Arc<Core>, request: v1::ReadContentRequest, told: Told<Bytes>) -> Result<(), Error> {
    let (mut resume, mut done) = (Resume::new(&core), 0);
    while let Err(failure) = read_once(&core, &request, &mut done, &told, &mut resume).await {
        resume.after(failure).await?;
    }
    Ok(())
}

async fn read_once(
    core: &Core,
    request: &v1::ReadContentRequest,
    done: &mut i64,
    told: &Told<Bytes>,
    resume: &mut Resume,
) -> Result<(), Error> {
    let mut stub = ContentServiceClient::new(core.channel()?.1);
    let request = authorize(beyond(request, *done), &core.session.token());
    let mut stream = stub.read_content(request).await?.into_inner();
    while let Some(chunk) = stream.message().await? {
        resume.told();
        *done += chunk.octets.len() as i64;
        told.tell(chunk.octets.into()).await;
    }
    Ok(())
}

/// What is left of a request when some octets have been read.
fn beyond(request: &v1::ReadContentRequest, done: i64) -> v1::ReadContentRequest {
    let mut left = request.clone();
    if let Some(section) = left.section.as_mut().filter(|_| done > 0) {
        section.offset_octets = Some(section.offset_octets.unwrap_or_default() + done);
        section.length_octets = section.length_octets.map(|length| length - done);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_goes_on_behind_what_was_read() {
        let section = v1::Section { offset_octets: Some(10), length_octets: Some(100), ..Default::default() };
        let request = v1::ReadContentRequest { message_id: 1, section: Some(section), ..Default::default() };
        assert_eq!(beyond(&request, 0), request);
        let left = beyond(&request, 30).section.unwrap();
        assert_eq!((left.offset_octets, left.length_octets), (Some(40), Some(70)));
        let whole = v1::ReadContentRequest { section: Some(v1::Section::default()), ..request };
        let left = beyond(&whole, 30).section.unwrap();
        assert_eq!((left.offset_octets, left.length_octets), (Some(30), None));
    }

    #[tokio::test]
    async fn a_source_is_sent_in_chunks_and_an_empty_one_as_one_empty_chunk() {
        for (size, wanted) in
            [(0, vec![0]), (5, vec![5]), (CHUNK_OCTETS, vec![CHUNK_OCTETS]), (CHUNK_OCTETS + 1, vec![CHUNK_OCTETS, 1])]
        {
            let (chunks, mut outgoing) = mpsc::channel(8);
            let mut progress = Progress { last: Instant::now(), furthest: 0 };
            let source = vec![7; size];
            send(v1::UploadKind::Message, &mut source.as_slice(), &mut progress, chunks).await.unwrap();
            let mut found = Vec::new();
            while let Some(chunk) = outgoing.recv().await {
                assert_eq!(chunk.kind == v1::UploadKind::Message as i32, found.is_empty());
                found.push(chunk.octets.len());
            }
            assert_eq!((found, progress.furthest), (wanted, size as u64));
        }
    }
}
