//! The one Watch stream of a client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::client::Core;
use crate::error::Error;
use crate::link::{authorize, locked};
use crate::retry::{Retry, jittered};
use crate::v1::sync_service_client::SyncServiceClient;
use crate::v1::{self, watch_request, watch_response};

const MAX_NOTICES: usize = 10_000; // that a reader has not taken: beyond, it reads anew
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Subscribes to any number of folders and mailboxes. It is opened with the first subscription, opened again whenever it
/// breaks, and each subscription resumes from what it has been told.
#[derive(Default)]
pub(crate) struct WatchStream(Mutex<State>);

#[derive(Default)]
struct State {
    last_id: i64,
    watching: HashMap<i64, Watched>,
    requests: Option<mpsc::UnboundedSender<v1::WatchRequest>>, // of the stream that is open
    running: bool,
}

struct Watched {
    wanted: v1::Subscription, // without a token
    notices: mpsc::Sender<watch_response::Notice>,
}

/// One thing that is watched; its notices wait until they are taken. Dropping it ends it.
pub(crate) struct Subscription {
    core: Arc<Core>,
    id: i64,
    notices: mpsc::Receiver<watch_response::Notice>,
}

impl Subscription {
    /// The next notice; `None`: some could not be kept.
    pub async fn next(&mut self) -> Option<watch_response::Notice> {
        self.notices.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = locked(&self.core.watching.0);
        if state.watching.remove(&self.id).is_some() {
            state.ask(watch_request::Action::Unsubscribe(self.id));
        }
    }
}

impl State {
    /// Sends a request where the stream is open. One that has just ended is of no use, and the next asks for everything.
    fn ask(&self, action: watch_request::Action) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(v1::WatchRequest { action: Some(action) });
        }
    }
}

/// Begins to watch what a subscription names: a mailbox, a folder, a change number and an epoch.
pub(crate) fn subscribe(core: &Arc<Core>, wanted: v1::Subscription) -> Subscription {
    let (outgoing, notices) = mpsc::channel(MAX_NOTICES);
    let mut state = locked(&core.watching.0);
    state.last_id += 1;
    let wanted = v1::Subscription { subscription_id: state.last_id, ..wanted };
    state.ask(watch_request::Action::Subscribe(with_token(core, &wanted)));
    let id = state.last_id;
    state.watching.insert(id, Watched { wanted, notices: outgoing });
    if !std::mem::replace(&mut state.running, true) {
        tokio::spawn(run(core.clone()));
    }
    Subscription { core: core.clone(), id, notices }
}

fn with_token(core: &Core, wanted: &v1::Subscription) -> v1::Subscription {
    v1::Subscription { session_token: core.session.token().to_vec(), ..wanted.clone() }
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
        {
            let mut state = locked(&core.watching.0);
            state.requests = None;
            if state.watching.is_empty() || core.closed.is_cancelled() {
                state.running = false;
                return;
            }
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
    {
        let mut state = locked(&core.watching.0);
        state.requests = Some(requests);
        for watched in state.watching.values() {
            state.ask(watch_request::Action::Subscribe(with_token(core, &watched.wanted)));
        }
    }
    let request = authorize(UnboundedReceiverStream::new(outgoing), &core.session.token());
    let mut stream = SyncServiceClient::new(channel).watch(request).await?.into_inner();
    while let Some(response) = stream.message().await? {
        retry.worked();
        match response.notice {
            Some(watch_response::Notice::Draining(_)) => {
                core.link.retire(number);
                return Ok(());
            }
            Some(notice) => receive(core, response.subscription_id, notice),
            None => {} // of a kind that this version does not know
        }
    }
    Ok(())
}

fn receive(core: &Core, id: i64, notice: watch_response::Notice) {
    let mut state = locked(&core.watching.0);
    let Some(watched) = state.watching.get_mut(&id) else { return };
    let mut over = false;
    match &notice {
        watch_response::Notice::Folder(changes) => raise(&mut watched.wanted, changes.change_number),
        watch_response::Notice::Mailbox(changed) => raise(&mut watched.wanted, changed.change_number),
        watch_response::Notice::ResetReason(_) | watch_response::Notice::Rejected(_) => over = true,
        _ => {}
    }
    if watched.notices.try_send(notice).is_err() {
        // The reader lags too far, or is gone: it sees the end of its notices.
        over = true;
        state.ask(watch_request::Action::Unsubscribe(id));
    }
    if over {
        state.watching.remove(&id);
    }
}

fn raise(wanted: &mut v1::Subscription, change_number: i64) {
    wanted.since_change_number = wanted.since_change_number.max(change_number);
}
