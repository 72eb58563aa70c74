//! Calls repeated while that may help, with request ids and the client's own writes.

use std::time::Duration;

use prost::Message;
use tokio::time::Instant;

use crate::core::{Core, Encoded};
use crate::error::Error;
use crate::link::locked;
use crate::multiplexer::Caller;
use crate::retry::{FIRST_PAUSE, LONGEST_PAUSE, Retry};
use crate::rpc::Rpc;
use crate::v1::{self, ErrorReason};
use crate::wire::malformed;

/// A fresh request id: once for a logical call, and kept when that is repeated. [`Client::call`](crate::Client::call) makes one where a request
/// has none; this is for programs that repeat a call themselves, also after a restart.
pub fn new_request_id() -> Vec<u8> {
    let mut id = vec![0; 16];
    getrandom::getrandom(&mut id).expect("the system gives random octets");
    id
}

impl Core {
    /// A call with all that is looked after.
    pub async fn call<R: Rpc>(&self, mut request: R, timeout: Option<Duration>) -> Result<R::Response, Error> {
        let deadline = self.deadline(timeout);
        if let Some(id) = request.request_id().filter(|id| id.is_empty()) {
            *id = new_request_id();
        }
        let commit = request.min_commit().and_then(|(number, mailbox)| Some((number, self.min_commit(mailbox)?)));
        let own = commit.is_some();
        let mut outcome = self.repeat(&request, commit, Caller::Session, deadline).await;
        if own && outcome.as_ref().is_err_and(|error| error.reason() == ErrorReason::EpochChanged) {
            // The store was restored: what was written before may be gone.
            locked(&self.commits).clear();
            outcome = self.repeat(&request, None, Caller::Session, deadline).await;
        }
        if let Some(commit) = outcome.as_ref().ok().and_then(|response| R::commit(response)) {
            self.remember(commit);
        }
        outcome
    }

    /// Makes a call until it succeeds, fails for good, or its time is over.
    pub async fn repeat<R: Rpc>(
        &self,
        request: &R,
        commit: Option<(u32, v1::CommitToken)>,
        caller: Caller,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let encoded = Encoded::new(request, commit);
        let mut retry = Retry::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let token = self.session.token();
            let failure = match self.send(&encoded, caller, deadline).await {
                Ok(octets) => return R::Response::decode(octets).map_err(malformed),
                Err(failure) => failure,
            };
            if failure.reason() == ErrorReason::SessionExpired && caller == Caller::Session && retry.renewal() {
                self.renew(&token, deadline).await?;
            } else if !encoded.repeatable || !may_help(&failure) || !retry.wait(&failure, deadline).await {
                return Err(failure);
            }
        }
    }

    pub fn min_commit(&self, mailbox_id: i64) -> Option<v1::CommitToken> {
        let mailbox_id = if mailbox_id == 0 { self.session.mailbox_id() } else { mailbox_id };
        locked(&self.commits).get(&mailbox_id).copied()
    }

    /// Keeps the commit of a write, so that later reads see it.
    fn remember(&self, commit: &v1::CommitToken) {
        let mut commits = locked(&self.commits);
        let known = commits.entry(commit.mailbox_id).or_insert(*commit);
        if (commit.epoch, commit.change_number) > (known.epoch, known.change_number) {
            *known = *commit;
        }
    }
}

/// Whether a call that failed so may succeed a little later.
fn may_help(failure: &Error) -> bool {
    failure.is_temporary() || failure.reason() == ErrorReason::TooManyOperations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_good_once_is_not_repeated() {
        assert!(v1::AuthenticateRequest::default().is_repeatable());
        assert!(!v1::AuthenticateRequest { exchange: vec![1], ..Default::default() }.is_repeatable());
        assert!(!v1::ChangePasswordRequest::default().is_repeatable());
    }

    #[test]
    fn request_ids_are_fresh() {
        let (one, other) = (new_request_id(), new_request_id());
        assert_eq!(one.len(), 16);
        assert_ne!(one, other);
    }
}
