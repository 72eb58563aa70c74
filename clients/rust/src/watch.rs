//! The one Watch stream of a client.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::core::Core;
use crate::error::Error;
use crate::link::authorize;
use crate::retry::{Retry, jittered};
use crate::subscriptions::Notices;
use crate::v1::sync_service_client::SyncServiceClient;
use crate::v1::{self, watch_response};

pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One thing that is watched; its notices wait until they are taken. Dropping it ends it.
pub(crate) struct Subscription {
    core: Arc<Core>,
    id: i64,
    notices: Notices,
}

impl Subscription {
    /// The next notice; `None`: some could not be kept.
    pub async fn next(&mut self) -> Option<watch_response::Notice> {
        self.notices.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.core.subscriptions.remove(self.id);
    }
}

/// Begins to watch what a subscription names: a mailbox, a folder, a change number and an epoch. The stream is opened
/// with the first subscription.
pub(crate) fn subscribe(core: &Arc<Core>, wanted: v1::Subscription) -> Subscription {
    let (id, notices, first) = core.subscriptions.add(wanted, &core.session.token());
    if first {
        tokio::spawn(run(core.clone()));
    }
    Subscription { core: core.clone(), id, notices }
}

/// Keeps a stream open until the client is closed or nothing is watched any more.
async fn run(core: Arc<Core>) {
    let mut retry = Retry::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let token = core.session.token();
        let ended = tokio::select! {
            ended = once(&core, &mut retry) => ended,
            () = core.closed.cancelled() => Ok(()),
        };
        if !core.subscriptions.broken(core.closed.is_cancelled()) {
            return;
        }
        let delay = match &ended {
            Ok(()) => jittered(FIRST_PAUSE),
            Err(failure) => retry.delay(failure.retry_delay()),
        };
        if ended.is_err_and(|failure| failure.is_over()) && core.session.token() == token {
            core.check().await; // a fresh token, or the end of the session, which its watchers learn from
        }
        tokio::time::sleep(delay).await;
    }
}

/// One stream from its beginning to its end. It returns `Ok` where the next one should be opened soon.
async fn once(core: &Arc<Core>, retry: &mut Retry) -> Result<(), Error> {
    let (number, channel) = core.channel()?;
    let (requests, outgoing) = mpsc::unbounded_channel();
    core.subscriptions.resume(requests, &core.session.token());
    let request = authorize(UnboundedReceiverStream::new(outgoing), &core.session.token());
    let mut stream = SyncServiceClient::new(channel).watch(request).await?.into_inner();
    while let Some(response) = stream.message().await? {
        retry.worked();
        match response.notice {
            Some(watch_response::Notice::Draining(_)) => {
                core.link.retire(number);
                return Ok(());
            }
            Some(notice) => core.subscriptions.receive(response.subscription_id, notice),
            None => {} // of a kind that this version does not know
        }
    }
    Ok(())
}
