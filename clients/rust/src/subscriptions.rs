//! What a client watches: its subscriptions, and how far each has been told.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::link::locked;
use crate::v1::{self, watch_request, watch_response};

const MAX_NOTICES: usize = 10_000; // that a reader has not taken: beyond, it reads anew

pub(crate) type Requests = mpsc::UnboundedSender<v1::WatchRequest>;
pub(crate) type Notices = mpsc::Receiver<watch_response::Notice>;

/// The subscriptions of one client to folders and mailboxes, for the stream that is open and for the next one.
#[derive(Default)]
pub(crate) struct Subscriptions(Mutex<State>);

#[derive(Default)]
struct State {
    last_id: i64,
    watched: HashMap<i64, Watched>,
    requests: Option<Requests>, // of the stream that is open
    running: bool,
}

struct Watched {
    wanted: v1::Subscription, // without a token
    notices: mpsc::Sender<watch_response::Notice>,
}

impl Subscriptions {
    /// Adds a mailbox or folder, from a change number of an epoch on. It gives the subscription's id, its notices, and
    /// whether nobody runs the stream yet, which the caller then does.
    pub fn add(&self, wanted: v1::Subscription, token: &Bytes) -> (i64, Notices, bool) {
        let (outgoing, notices) = mpsc::channel(MAX_NOTICES);
        let mut state = locked(&self.0);
        state.last_id += 1;
        let id = state.last_id;
        let watched = Watched { wanted: v1::Subscription { subscription_id: id, ..wanted }, notices: outgoing };
        state.ask(watched.subscribe(token));
        state.watched.insert(id, watched);
        (id, notices, !std::mem::replace(&mut state.running, true))
    }

    /// Ends a subscription; harmless to repeat.
    pub fn remove(&self, id: i64) {
        let mut state = locked(&self.0);
        if state.watched.remove(&id).is_some() {
            state.ask(watch_request::Action::Unsubscribe(id));
        }
    }

    /// Asks for everything by a stream that is being opened.
    pub fn resume(&self, requests: Requests, token: &Bytes) {
        let mut state = locked(&self.0);
        state.requests = Some(requests);
        for watched in state.watched.values() {
            state.ask(watched.subscribe(token));
        }
    }

    /// Takes note that the stream has ended. Tells whether another is wanted; if not, the next `add` asks for one.
    pub fn broken(&self, closed: bool) -> bool {
        let mut state = locked(&self.0);
        state.requests = None;
        state.running = !closed && !state.watched.is_empty();
        state.running
    }

    /// Hands a notice to its reader, and remembers how far it was told.
    pub fn receive(&self, id: i64, notice: watch_response::Notice) {
        let mut state = locked(&self.0);
        let Some(watched) = state.watched.get_mut(&id) else { return };
        let mut over = false;
        match &notice {
            watch_response::Notice::Folder(changes) => watched.raise(changes.change_number),
            watch_response::Notice::Mailbox(changed) => watched.raise(changed.change_number),
            watch_response::Notice::ResetReason(_) | watch_response::Notice::Rejected(_) => over = true,
            _ => {}
        }
        if watched.notices.try_send(notice).is_err() {
            // The reader lags too far, or is gone: it sees the end of its notices.
            over = true;
            state.ask(watch_request::Action::Unsubscribe(id));
        }
        if over {
            state.watched.remove(&id);
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

impl Watched {
    fn subscribe(&self, token: &Bytes) -> watch_request::Action {
        watch_request::Action::Subscribe(v1::Subscription { session_token: token.to_vec(), ..self.wanted.clone() })
    }

    fn raise(&mut self, change_number: i64) {
        self.wanted.since_change_number = self.wanted.since_change_number.max(change_number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change_number: i64) -> watch_response::Notice {
        watch_response::Notice::Mailbox(v1::MailboxChanged { change_number, ..Default::default() })
    }

    fn asked(requests: &mut mpsc::UnboundedReceiver<v1::WatchRequest>) -> Option<watch_request::Action> {
        requests.try_recv().ok().and_then(|request| request.action)
    }

    #[test]
    fn the_next_stream_asks_from_what_was_told() {
        let (subscriptions, token) = (Subscriptions::default(), Bytes::from_static(b"token"));
        let (id, mut notices, first) =
            subscriptions.add(v1::Subscription { since_change_number: 5, ..Default::default() }, &token);
        assert!(first);
        subscriptions.receive(id, changed(9));
        assert_eq!(notices.try_recv(), Ok(changed(9)));
        let (requests, mut outgoing) = mpsc::unbounded_channel();
        subscriptions.resume(requests, &token);
        let wanted = v1::Subscription {
            subscription_id: id,
            since_change_number: 9,
            session_token: token.to_vec(),
            ..Default::default()
        };
        assert_eq!(asked(&mut outgoing), Some(watch_request::Action::Subscribe(wanted)));
    }

    #[test]
    fn a_stream_without_subscriptions_is_not_opened_again() {
        let (subscriptions, token) = (Subscriptions::default(), Bytes::new());
        let (id, _notices, _) = subscriptions.add(v1::Subscription::default(), &token);
        assert!(subscriptions.broken(false));
        subscriptions.remove(id);
        assert!(!subscriptions.broken(false));
        let (_, _more, first) = subscriptions.add(v1::Subscription::default(), &token);
        assert!(first);
        assert!(!subscriptions.broken(true));
    }

    #[test]
    fn a_reset_is_the_last_notice() {
        let subscriptions = Subscriptions::default();
        let (id, mut notices, _) = subscriptions.add(v1::Subscription::default(), &Bytes::new());
        subscriptions.receive(id, watch_response::Notice::ResetReason(1));
        subscriptions.receive(id, changed(2));
        assert_eq!(notices.try_recv(), Ok(watch_response::Notice::ResetReason(1)));
        assert_eq!(notices.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }
}
