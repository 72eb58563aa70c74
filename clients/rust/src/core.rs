//! What the parts of a client share, and a call made once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use crate::config::Config;
use crate::error::Error;
use crate::link::{Link, authorize};
use crate::multiplexer::{Asked, Caller, Incoming, MAX_OCTETS, Multiplexer, Opening, Outgoing, Transport};
use crate::rpc::Rpc;
use crate::session::Session;
use crate::subscriptions::Subscriptions;
use crate::v1;
use crate::wire::{OctetsCodec, encode_request, malformed, octets_of, put_octets};

const EXECUTE: &str = "/restante.v1.BatchService/Execute";

/// What the parts of a client share.
pub(crate) struct Core {
    pub config: Config,
    pub link: Arc<Link>,
    pub session: Arc<Session>,
    pub subscriptions: Subscriptions,
    pub closed: CancellationToken,
    pub operations: Multiplexer,
    pub commits: Mutex<HashMap<i64, v1::CommitToken>>, // the latest write to each mailbox that this client has seen
}

impl Core {
    /// A core without a session. It lives on the running tokio runtime until it is closed.
    pub fn new(config: Config) -> Arc<Self> {
        let link = Arc::new(Link::new(config.clone()));
        let session = Arc::new(Session::default());
        let transport = Execute { link: link.clone(), session: session.clone() };
        let core = Arc::new(Self {
            operations: Multiplexer::new(transport, config.patience),
            config,
            link,
            session,
            subscriptions: Subscriptions::default(),
            closed: CancellationToken::new(),
            commits: Mutex::default(),
        });
        let closing = core.clone();
        tokio::spawn(async move {
            closing.closed.cancelled().await;
            closing.operations.close();
            closing.link.close();
        });
        core
    }

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
    pub async fn send(&self, encoded: &Encoded, caller: Caller, deadline: Instant) -> Result<Bytes, Error> {
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
}

/// A request, ready to be sent any number of times.
pub(crate) struct Encoded {
    path: &'static str,
    place: Option<u32>,
    pub repeatable: bool,
    octets: Bytes,
}

impl Encoded {
    pub fn new<R: Rpc>(request: &R, commit: Option<(u32, v1::CommitToken)>) -> Self {
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
}
