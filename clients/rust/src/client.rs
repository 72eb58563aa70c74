//! The client: calls, lists and operations.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use crate::config::Config;
use crate::error::Error;
use crate::events::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::link::{Link, authorize, locked};
use crate::multiplexer::{Asked, Caller, Incoming, MAX_OCTETS, Multiplexer, Opening, Outgoing, Transport, Waiting};
use crate::retry::Retry;
use crate::rpc::{List, Rpc};
use crate::session::Session;
use crate::v1::{self, ErrorReason};
use crate::watching::WatchStream;
use crate::wire::{OctetsCodec, encode_request, malformed, octets_of, put_octets};

const DEFAULT_PAGE_SIZE: i32 = 100; // the contract's
const EXECUTE: &str = "/restante.v1.BatchService/Execute";

/// A fresh request id: once for a logical call, and kept when that is repeated. [`Client::call`] makes one where a request
/// has none; this is for programs that repeat a call themselves, also after a restart.
pub fn new_request_id() -> Vec<u8> {
    let mut id = vec![0; 16];
    getrandom::getrandom(&mut id).expect("the system gives random octets");
    id
}

/// One user's session with a server. Clones share it; it is closed with the last of them, or by
/// [`close`](Self::close).
///
/// It lives on the tokio runtime on which it was made.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    _open: Arc<DropGuard>,
}

/// What the parts of a client share.
pub(crate) struct Core {
    pub config: Config,
    pub link: Arc<Link>,
    pub session: Arc<Session>,
    pub watching: WatchStream,
    pub closed: CancellationToken,
    operations: Multiplexer,
    commits: Mutex<HashMap<i64, v1::CommitToken>>, // the latest write to each mailbox that this client has seen
}

impl Client {
    /// Connects and proves who the user is by a password. The session is renewed in the background until the client is
    /// closed; after its 24 hours the password begins the next one (see [`Config::forget_password`]).
    ///
    /// The reason is `AuthenticationFailed` for a wrong name or password, and `TooManyAttempts` with a delay after
    /// several.
    pub async fn log_on(config: Config, user: &str, password: &str) -> Result<Self, Error> {
        let made = Self::new(config);
        made.core
            .authenticate(user, password, made.core.deadline(None))
            .await
            .map_err(|error| made.unreached(error))?;
        if !made.core.config.forget_password {
            made.core.session.keep_password(password);
        }
        tokio::spawn(made.core.clone().keep_fresh());
        Ok(made)
    }

    /// Connects with a session token that was kept, and tries it at once. There is no password: the session ends when
    /// it cannot be renewed. The reason of a failure is `SessionExpired`, `SessionRevoked` or `InvalidSession`.
    pub async fn resume(config: Config, token: impl Into<Bytes>) -> Result<Self, Error> {
        let made = Self::new(config);
        made.core.resume(token.into(), made.core.deadline(None)).await.map_err(|error| made.unreached(error))?;
        tokio::spawn(made.core.clone().keep_fresh());
        Ok(made)
    }

    /// The error of a first call: one that says where the server was looked for, if it could not be reached.
    fn unreached(&self, error: Error) -> Error {
        let trouble = self.core.operations.trouble();
        let cause = if error.code() == Code::DeadlineExceeded { trouble.as_ref().unwrap_or(&error) } else { &error };
        if cause.code() == Code::Unavailable && cause.reason_name().is_empty() {
            return Error::unreachable(&self.core.config.address, cause);
        }
        error
    }

    fn new(config: Config) -> Self {
        let link = Arc::new(Link::new(config.clone()));
        let session = Arc::new(Session::default());
        let transport = Execute { link: link.clone(), session: session.clone() };
        let core = Arc::new(Core {
            operations: Multiplexer::new(transport, config.patience),
            config,
            link,
            session,
            watching: WatchStream::default(),
            closed: CancellationToken::new(),
            commits: Mutex::default(),
        });
        let (closed, closing) = (core.closed.clone(), core.clone());
        tokio::spawn(async move {
            closing.closed.cancelled().await;
            closing.operations.close();
            closing.link.close();
        });
        Self { core, _open: Arc::new(closed.drop_guard()) }
    }

    /// Ends all streams and connections, for all clones. The session itself stays good until it lapses;
    /// [`log_off`](Self::log_off) ends it. Calls that are under way fail with the code `Cancelled`.
    pub fn close(&self) {
        self.core.closed.cancel();
        self.core.operations.close();
        self.core.link.close();
    }

    /// Makes a unary RPC, which its request names:
    ///
    /// ```no_run
    /// # use restante::{Client, Error, v1};
    /// # use std::time::Duration;
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let inbox = v1::GetFolderRequest { role: v1::FolderRole::Inbox.into(), ..Default::default() };
    /// let folder = client.call(inbox.clone()).await?.folder;
    /// let sooner = client.call(inbox).timeout(Duration::from_secs(2)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It gets a request id and `min_commit` where it lacks them, and is repeated while the failure is temporary
    /// (UNAVAILABLE, a lost connection, TOO_MANY_OPERATIONS); a session that has expired is renewed once. It travels in
    /// the Execute stream beside other calls, unless its size or its kind ask for a call of its own.
    pub fn call<R: Rpc>(&self, request: R) -> Call<R> {
        Call { client: self.clone(), request, timeout: None }
    }

    /// Every page of a list. Where a page is RESULT_TOO_LARGE, smaller ones are asked for.
    ///
    /// ```no_run
    /// # use restante::{Client, Error, v1};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let mut pages = client.pages(v1::ListFoldersRequest::default());
    /// while let Some(page) = pages.next().await {
    ///     println!("{} folders", page?.folders.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pages<R: List>(&self, request: R) -> Pages<R> {
        Pages { client: self.clone(), request: Some(request) }
    }

    /// Hands an operation to the Execute stream, at once; awaiting it brings the response.
    ///
    /// Operations are sent in the order of these calls, and each begins after the one before has answered, unless
    /// independent. The stream keeps its bounds: 256 operations and 1 MiB a message, 64 operations in flight (more are
    /// held back). Where it is lost, what was not answered is sent again on the next. Otherwise the request goes as it
    /// is, and once: a missing request id is an error, and nothing is repeated that the server has answered.
    pub fn execute<R: Rpc>(&self, request: R, options: ExecuteOptions) -> Operation<R> {
        let deadline = self.core.deadline(options.timeout);
        let waiting = match R::PLACE {
            None => Err(Error::new(Code::Unimplemented, format!("{} is no operation of a batch.", R::PATH))),
            Some(place) => {
                let asked = Asked {
                    place,
                    request: encode_request(place, &request.encode_to_vec()),
                    independent: options.independent,
                    repeatable: request.is_repeatable(),
                    deadline,
                };
                Ok(self.core.operations.start(asked, Caller::Session))
            }
        };
        Operation { waiting, _client: self.clone(), kind: PhantomData }
    }

    /// The session as it is now, with its token, which may be kept for [`resume`](Self::resume). No server is asked.
    pub fn session(&self) -> v1::Session {
        self.core.session.info()
    }

    /// Gets a fresh token now. There is seldom a need: the session is renewed in the background.
    ///
    /// Where it cannot be renewed any more and the password is known, the user is logged on again; otherwise the reason
    /// is `SessionExpired`, `SessionRevoked` or `InvalidSession`.
    pub async fn renew(&self) -> Result<(), Error> {
        self.core.renew(&self.core.session.token(), self.core.deadline(None)).await
    }

    /// Sets a new password. Other sessions of the account end; this client goes on under a new one.
    ///
    /// The reason is `AuthenticationFailed` for a wrong old password and `WeakPassword` for a new one that is not taken.
    /// The call is not sent again when its answer is lost.
    pub async fn change_password(&self, old: &str, new: &str) -> Result<(), Error> {
        self.core.change_password(old, new, self.core.deadline(None)).await
    }

    /// Ends the session at the server.
    pub async fn log_off(&self) -> Result<(), Error> {
        self.core.log_off(self.core.deadline(None)).await
    }

    /// Waits until the session is over, and tells why: it was logged off, or could not be renewed any more, or the
    /// client was closed.
    pub async fn ended(&self) -> Error {
        tokio::select! {
            () = self.core.session.ended.cancelled() => {}
            () = self.core.closed.cancelled() => {}
        }
        self.core.session.end_reason().unwrap_or_else(Error::closed)
    }

    /// The latest write to a mailbox that this client has seen (0: the session's own mailbox). Calls carry it by
    /// themselves; it is for streams that are opened by stubs.
    pub fn min_commit(&self, mailbox_id: i64) -> Option<v1::CommitToken> {
        self.core.min_commit(mailbox_id)
    }

    /// The present channel, for generated stubs: what is called through them is not looked after. Requests need
    /// [`authorized`](Self::authorized).
    pub fn channel(&self) -> Result<Channel, Error> {
        Ok(self.core.channel()?.1)
    }

    /// A request of a stub, with the session's token.
    pub fn authorized<T>(&self, message: T) -> tonic::Request<T> {
        authorize(message, &self.core.session.token())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Client").field("config", &self.core.config).finish_non_exhaustive()
    }
}

/// A call to be made: awaiting it makes it. Dropping its future cancels it, at the server too.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct Call<R> {
    client: Client,
    request: R,
    timeout: Option<Duration>,
}

impl<R> Call<R> {
    /// The time for all attempts, instead of [`Config::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<R: Rpc> IntoFuture for Call<R> {
    type Output = Result<R::Response, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.client.core.call(self.request, self.timeout).await })
    }
}

/// The pages of a list; see [`Client::pages`].
#[derive(Debug)]
pub struct Pages<R> {
    client: Client,
    request: Option<R>, // for the next page
}

impl<R: List> Pages<R> {
    /// The next page; `None` after the last, and after an error.
    pub async fn next(&mut self) -> Option<Result<R::Response, Error>> {
        let mut wanted = self.request.take()?;
        loop {
            let page = match self.client.core.call(wanted.clone(), None).await {
                Ok(page) => page,
                Err(error) => {
                    let size = match *wanted.page_size() {
                        0 => DEFAULT_PAGE_SIZE,
                        size => size,
                    };
                    if error.reason() != ErrorReason::ResultTooLarge || size <= 1 {
                        return Some(Err(error));
                    }
                    *wanted.page_size() = (size / 4).max(1);
                    continue;
                }
            };
            let next = R::next_page_token(&page);
            if !next.is_empty() {
                *wanted.page_token() = next.to_owned();
                self.request = Some(wanted);
            }
            return Some(Ok(page));
        }
    }
}

/// How [`Client::execute`] runs an operation.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecuteOptions {
    /// Lets it begin before those that were handed over earlier have answered.
    pub independent: bool,
    /// The time for it; `None`: [`Config::timeout`].
    pub timeout: Option<Duration>,
}

/// An operation that was handed over; awaiting it brings its response. Dropping it cancels it, at the server too.
#[must_use = "dropping an operation cancels it"]
pub struct Operation<R> {
    waiting: Result<Waiting, Error>,
    _client: Client, // which stays open for it
    kind: PhantomData<fn() -> R>,
}

impl<R: Rpc> Future for Operation<R> {
    type Output = Result<R::Response, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.waiting {
            Err(error) => Poll::Ready(Err(error.clone())),
            Ok(waiting) => {
                Pin::new(waiting).poll(context).map(|answer| R::Response::decode(answer?).map_err(malformed))
            }
        }
    }
}

impl<R> fmt::Debug for Operation<R> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Operation").finish_non_exhaustive()
    }
}

impl Core {
    pub fn deadline(&self, timeout: Option<Duration>) -> Instant {
        Instant::now() + timeout.unwrap_or(self.config.timeout)
    }

    /// The present channel and its number.
    pub fn channel(&self) -> Result<(u64, Channel), Error> {
        if self.closed.is_cancelled() {
            return Err(Error::closed());
        }
        self.link.channel()
    }

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

    /// Makes a call once.
    pub async fn attempt<R: Rpc>(
        &self,
        request: &R,
        commit: Option<(u32, v1::CommitToken)>,
        caller: Caller,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let octets = self.send(&Encoded::new(request, commit), caller, deadline).await?;
        R::Response::decode(octets).map_err(malformed)
    }

    /// Sends an encoded request once, in the Execute stream where it can.
    async fn send(&self, encoded: &Encoded, caller: Caller, deadline: Instant) -> Result<Bytes, Error> {
        if let Some(place) = encoded.place {
            let request = encode_request(place, &encoded.octets);
            if octets_of(&request) <= MAX_OCTETS {
                let asked = Asked { place, request, independent: true, repeatable: encoded.repeatable, deadline };
                return self.operations.start(asked, caller).await;
            }
        }
        let token = if caller == Caller::Session { self.session.token() } else { Bytes::new() };
        let mut request = authorize(encoded.octets.clone(), &token);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let mut grpc = Grpc::new(self.channel()?.1);
        let calling = async {
            grpc.ready().await.map_err(|cause| Error::caused(Code::Unavailable, cause))?;
            let response = grpc.unary(request, PathAndQuery::from_static(encoded.path), OctetsCodec).await?;
            Ok(response.into_inner())
        };
        tokio::select! {
            () = self.closed.cancelled() => Err(Error::closed()),
            outcome = tokio::time::timeout_at(deadline, calling) => outcome.unwrap_or_else(|_| Err(Error::too_late())),
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

/// A request, ready to be sent any number of times.
struct Encoded {
    path: &'static str,
    place: Option<u32>,
    repeatable: bool,
    octets: Bytes,
}

impl Encoded {
    fn new<R: Rpc>(request: &R, commit: Option<(u32, v1::CommitToken)>) -> Self {
        let mut octets = request.encode_to_vec();
        if let Some((number, commit)) = commit {
            put_octets(number, &commit.encode_to_vec(), &mut octets); // a field may follow in any order
        }
        Self { path: R::PATH, place: R::PLACE, repeatable: request.is_repeatable(), octets: octets.into() }
    }
}

/// Opens Execute streams on the link.
struct Execute {
    link: Arc<Link>,
    session: Arc<Session>,
}

impl Transport for Execute {
    fn open(&self, drained: Option<u64>, outgoing: Outgoing) -> (u64, Opening) {
        if let Some(number) = drained {
            self.link.retire(number);
        }
        match self.link.channel() {
            Err(error) => (0, Box::pin(async { Err(error) })),
            Ok((number, channel)) => (number, Box::pin(open_execute(channel, outgoing))),
        }
    }

    fn token(&self) -> Bytes {
        self.session.token()
    }
}

async fn open_execute(channel: Channel, outgoing: Outgoing) -> Result<Incoming, Error> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|cause| Error::caused(Code::Unavailable, cause))?;
    let request = tonic::Request::new(outgoing);
    let answers = grpc.streaming(request, PathAndQuery::from_static(EXECUTE), OctetsCodec).await?.into_inner();
    Ok(Box::pin(tokio_stream::StreamExt::map(answers, |answer| answer.map_err(Error::from))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_added_to_a_request_that_has_none() {
        let request = v1::GetFolderRequest { folder_id: 7, ..Default::default() };
        let (number, _) = request.min_commit().unwrap();
        let commit = v1::CommitToken { mailbox_id: 1, change_number: 9, epoch: 1 };
        let encoded = Encoded::new(&request, Some((number, commit)));
        let sent = v1::GetFolderRequest::decode(encoded.octets).unwrap();
        assert_eq!(sent, v1::GetFolderRequest { min_commit: Some(commit), ..request });
        assert_eq!(sent.min_commit(), None);
    }

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
