//! The client: calls, lists and operations.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio_util::sync::DropGuard;
use tonic::Code;
use tonic::transport::Channel;

use crate::config::Config;
use crate::core::Core;
use crate::error::Error;
use crate::link::authorize;
use crate::multiplexer::{Asked, Caller, Waiting};
use crate::rpc::{List, Rpc};
use crate::v1;
use crate::wire::{encode_request, malformed};

/// One user's session with a server. Clones share it; it is closed with the last of them, or by
/// [`close`](Self::close).
///
/// It lives on the tokio runtime on which it was made.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    _open: Arc<DropGuard>,
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
        let core = Core::new(config);
        let closed = core.closed.clone();
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

    /// Every page of a list.
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
        let page = match self.client.core.call(wanted.clone(), None).await {
            Ok(page) => page,
            Err(error) => return Some(Err(error)),
        };
        let next = R::next_page_token(&page);
        if !next.is_empty() {
            *wanted.page_token() = next.to_owned();
            self.request = Some(wanted);
        }
        Some(Ok(page))
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
