//! Streams that go on by themselves when the connection breaks.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_stream::Stream;

use crate::core::Core;
use crate::error::Error;
use crate::retry::{FIRST_PAUSE, LONGEST_PAUSE, Retry};
use crate::v1::ErrorReason;

const QUIET: Duration = Duration::from_secs(10); // a stream that lasted so long had begun: connecting fails sooner

/// What comes, one after the other: a [`Stream`], with a method [`next`](Self::next) of its own.
///
/// It is fetched no further than one item ahead of what is taken. An error is the last that comes. Dropping it ends it,
/// at the server too.
pub struct Events<T> {
    incoming: mpsc::Receiver<Result<T, Error>>,
    task: AbortHandle,
}

/// Where a stream puts what it brings.
pub(crate) struct Told<T>(mpsc::Sender<Result<T, Error>>);

impl<T> Told<T> {
    /// Waits until there is room for it.
    pub async fn tell(&self, event: T) {
        let _ = self.0.send(Ok(event)).await; // a reader that is gone has ended this task, too
    }
}

impl<T: Send + 'static> Events<T> {
    pub(crate) fn new<F>(core: Arc<Core>, run: impl FnOnce(Arc<Core>, Told<T>) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (outgoing, incoming) = mpsc::channel(1);
        let running = run(core.clone(), Told(outgoing.clone()));
        let task = tokio::spawn(async move {
            let ended = tokio::select! {
                ended = running => ended,
                () = core.closed.cancelled() => Err(Error::closed()),
            };
            if let Err(error) = ended {
                let _ = outgoing.send(Err(error)).await; // nobody may read any more
            }
        });
        Self { incoming, task: task.abort_handle() }
    }
}

impl<T> Events<T> {
    /// The next one; `None` at the end. Giving this up before it is there loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        self.incoming.recv().await
    }
}

impl<T> Stream for Events<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(context)
    }
}

impl<T> Drop for Events<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Decides whether another stream follows one that broke: it does after what is only temporary, and after a session that
/// has expired, unless they have failed at once for the client's timeout.
pub(crate) struct Resume {
    core: Arc<Core>,
    retry: Retry,
    token: bytes::Bytes,
    began: Instant,
    failing_since: Option<Instant>,
}

impl Resume {
    pub fn new(core: &Arc<Core>) -> Self {
        Self {
            core: core.clone(),
            retry: Retry::new(FIRST_PAUSE, LONGEST_PAUSE),
            token: core.session.token(),
            began: Instant::now(),
            failing_since: None,
        }
    }

    /// Something came.
    pub fn told(&mut self) {
        self.retry.worked();
        self.failing_since = None;
    }

    /// Waits until another stream may be opened, or gives the failure back.
    pub async fn after(&mut self, failure: Error) -> Result<(), Error> {
        let now = Instant::now();
        if now - self.began > QUIET {
            self.told(); // it worked, if in silence
        }
        if failure.reason() == ErrorReason::SessionExpired && self.retry.renewal() {
            self.core.renew(&self.token, self.core.deadline(None)).await?;
        } else {
            let since = *self.failing_since.get_or_insert(now);
            let next = now + self.retry.delay(failure.retry_delay());
            if !failure.is_temporary() || next > since + self.core.config.timeout {
                return Err(failure);
            }
            tokio::time::sleep_until(next).await;
        }
        self.token = self.core.session.token();
        self.began = Instant::now();
        Ok(())
    }
}
