//! Who a client is.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::client::Core;
use crate::error::Error;
use crate::link::locked;
use crate::multiplexer::Caller;
use crate::v1::{self, ErrorReason};

const SHORTEST_RENEWAL: Duration = Duration::from_millis(200);
const RENEWAL_RETRY: Duration = Duration::from_secs(2);

/// What a client knows of who it is.
#[derive(Default)]
pub(crate) struct Session {
    changing: tokio::sync::Mutex<()>, // held while the session is being replaced
    present: Mutex<Present>,
    pub ended: CancellationToken,
    reason: OnceLock<Error>,
}

#[derive(Default)]
struct Present {
    info: v1::Session,
    lapses: Option<Instant>, // by this machine's monotonic clock: the server's clock may be another
    token: Bytes,
    password: Option<String>,
}

impl Session {
    pub fn token(&self) -> Bytes {
        locked(&self.present).token.clone()
    }

    pub fn info(&self) -> v1::Session {
        locked(&self.present).info.clone()
    }

    pub fn mailbox_id(&self) -> i64 {
        locked(&self.present).info.mailbox_id
    }

    pub fn set_token(&self, token: Bytes) {
        locked(&self.present).token = token;
    }

    pub fn keep_password(&self, password: &str) {
        locked(&self.present).password = Some(password.to_owned());
    }

    pub fn end(&self, reason: Error) {
        if self.reason.set(reason).is_ok() {
            self.ended.cancel();
        }
    }

    /// Why the session is over; `None` while it is not known to be.
    pub fn end_reason(&self) -> Option<Error> {
        self.reason.get().cloned()
    }

    /// How long the present token may be left alone: half of its life. The other half is for a server that is away.
    fn until_renewal(&self, now: Instant) -> Duration {
        renewal_after(locked(&self.present).lapses, now)
    }
}

fn renewal_after(lapses: Option<Instant>, now: Instant) -> Duration {
    let left = lapses.map(|moment| moment.saturating_duration_since(now)).unwrap_or_default();
    (left / 2).max(SHORTEST_RENEWAL)
}

impl Core {
    /// Begins a session with a password.
    pub async fn authenticate(&self, user: &str, password: &str, deadline: Instant) -> Result<(), Error> {
        let request = v1::AuthenticateRequest {
            mechanism: "PLAIN".into(),
            response: Some(format!("\0{user}\0{password}").into_bytes()), // RFC 4616 2
            scope: v1::Scope::Api.into(),
            ..Default::default()
        };
        let answer = self.attempt(&request, None, Caller::Nobody, deadline).await?;
        self.take(answer.session)
    }

    /// Tries a token that was kept.
    pub async fn resume(&self, token: Bytes, deadline: Instant) -> Result<(), Error> {
        self.session.set_token(token.clone());
        let answer = self.attempt(&v1::GetSessionRequest {}, None, Caller::Session, deadline).await?;
        let session = answer.session.map(|session| v1::Session { session_token: token.to_vec(), ..session });
        self.take(session)
    }

    /// Replaces a token, unless somebody else has just done it.
    pub async fn renew(&self, before: &Bytes, deadline: Instant) -> Result<(), Error> {
        let changing = tokio::time::timeout_at(deadline, self.session.changing.lock());
        let _held = changing.await.map_err(|_| Error::too_late())?;
        if self.session.token() != before {
            return Ok(());
        }
        let failure = match self.attempt(&v1::RenewSessionRequest {}, None, Caller::Session, deadline).await {
            Ok(answer) => return self.take(answer.session),
            Err(failure) => failure,
        };
        let (user, password) = {
            let present = locked(&self.session.present);
            (present.info.address.clone(), present.password.clone())
        };
        match (failure.reason(), password) {
            (ErrorReason::SessionExpired | ErrorReason::InvalidSession, Some(password)) => {
                Box::pin(self.authenticate(&user, &password, deadline)).await
            }
            _ => Err(failure),
        }
    }

    pub async fn change_password(&self, old: &str, new: &str, deadline: Instant) -> Result<(), Error> {
        let changing = tokio::time::timeout_at(deadline, self.session.changing.lock());
        let _held = changing.await.map_err(|_| Error::too_late())?;
        let request = v1::ChangePasswordRequest { old_password: old.into(), new_password: new.into() };
        let answer = self.attempt(&request, None, Caller::Session, deadline).await?;
        if let Some(password) = &mut locked(&self.session.present).password {
            *password = new.into();
        }
        self.take(answer.session)
    }

    pub async fn log_off(&self, deadline: Instant) -> Result<(), Error> {
        self.attempt(&v1::LogoffRequest {}, None, Caller::Session, deadline).await?;
        self.session.end(Error::of_reason(Code::Unauthenticated, ErrorReason::SessionRevoked, "Logged off."));
        Ok(())
    }

    fn take(&self, given: Option<v1::Session>) -> Result<(), Error> {
        let given = given.ok_or_else(|| Error::new(Code::Internal, "The answer holds no session."))?;
        {
            let mut present = locked(&self.session.present);
            present.token = given.session_token.clone().into();
            let lifetime = Duration::from_millis(given.lifetime_milliseconds.try_into().unwrap_or_default());
            present.lapses = Some(Instant::now() + lifetime);
            present.info = given.clone();
        }
        if let Some(told) = &self.config.on_session {
            told(&given);
        }
        Ok(())
    }

    /// Renews the session before it lapses, until it has ended or the client is closed.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut wait = self.session.until_renewal(Instant::now());
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.session.ended.cancelled() => return,
                () = self.closed.cancelled() => return,
            }
            wait = if self.check().await { self.session.until_renewal(Instant::now()) } else { RENEWAL_RETRY };
        }
    }

    /// Renews the session, and ends it where that is refused. Tells whether there is nothing more to do for now.
    pub async fn check(&self) -> bool {
        match self.renew(&self.session.token(), self.deadline(None)).await {
            Ok(()) => true,
            Err(failure) if failure.is_over() => {
                self.session.end(failure);
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_after_half_of_its_time() {
        let now = Instant::now();
        for (left, wanted) in [(30, 15), (900, 450)] {
            let lapses = now + Duration::from_secs(left);
            assert_eq!(renewal_after(Some(lapses), now), Duration::from_secs(wanted), "{left}");
        }
        assert_eq!(renewal_after(Some(now), now + Duration::from_secs(5)), SHORTEST_RENEWAL);
        assert_eq!(renewal_after(None, now), SHORTEST_RENEWAL);
    }
}
