//! An answer that is made while it is sent: a few chunks wait for the client, and making goes on when it takes them.
//!
//! What fails half-way breaks the connection off: a client sees that the end is missing, and takes no part for the whole.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    describe::describe,
    problem::Problem,
    store::{Error, Readers, Tx},
};

/// Chunks that wait for the client.
const CHUNKS: usize = 4;
/// About how many bytes a chunk has.
pub(super) const CHUNK: usize = 64 * 1024;
/// Streams at a time; each holds some chunks in memory.
const STREAMS: usize = 32;
/// The media type of JSON lines.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// How many more streams there may be.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<Semaphore>);

impl Streams {
    /// So many at a time.
    pub(super) fn of(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::of(STREAMS)
    }
}

/// One chunk, and whether there may be another.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Whole lines, or a part of something else.
    pub(super) lines: Vec<u8>,
    /// Whether that was all.
    pub(super) end: bool,
}

/// Makes chunks, one after the other, each on a thread that may block.
pub(super) trait Maker: Send + 'static {
    /// The next.
    fn chunk(&mut self, tx: &mut dyn Tx) -> Result<Chunk, Error>;
}

/// Answers with all that a maker makes, as JSON lines. The first chunk is made before anything is answered, so that what
/// fails at once is refused properly.
pub(super) async fn answer(streams: &Streams, readers: &Readers, maker: impl Maker) -> Result<Response, Problem> {
    answer_as(streams, readers, maker, NDJSON).await
}

/// The same as something else than lines.
pub(super) async fn answer_as(
    streams: &Streams,
    readers: &Readers,
    maker: impl Maker,
    media: &'static str,
) -> Result<Response, Problem> {
    let permit = Arc::clone(&streams.0)
        .try_acquire_owned()
        .map_err(|_| Problem::busy("too many long answers are being sent; ask again after the time in Retry-After"))?;
    let (maker, first) = make(readers, maker).await?;
    let (send, receive) = mpsc::channel(CHUNKS);
    let end = first.end;
    let body = Lines { first: Some(first.lines.into()), rest: receive, _permit: permit };
    if !end {
        tokio::spawn(go_on(readers.clone(), maker, send));
    }
    let mut response = Body::new(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(response)
}

async fn make<M: Maker>(readers: &Readers, mut maker: M) -> Result<(M, Chunk), Error> {
    readers.run(move |tx| maker.chunk(tx).map(|chunk| (maker, chunk))).await
}

async fn go_on(readers: Readers, mut maker: impl Maker, send: mpsc::Sender<Result<Bytes, Broken>>) {
    loop {
        let chunk = match make(&readers, maker).await {
            Ok((back, chunk)) => {
                maker = back;
                chunk
            }
            Err(error) => {
                tracing::error!(error = %describe(&error), "an answer was broken off");
                // Nobody listens any more: then nobody has to be told.
                let _ = send.send(Err(Broken)).await;
                return;
            }
        };
        let gone = !chunk.lines.is_empty() && send.send(Ok(chunk.lines.into())).await.is_err();
        if gone || chunk.end || send.is_closed() {
            return;
        }
    }
}

/// The answer could not be made to its end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the answer was broken off")]
struct Broken;

struct Lines {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Result<Bytes, Broken>>,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(first) = self.first.take().filter(|f| !f.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.rest.poll_recv(cx).map(|next| next.map(|chunk| chunk.map(Frame::data)))
    }
}
