//! A session begun, renewed and ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::Code;

use crate::core::Core;
use crate::error::Error;
use crate::link::locked;
use crate::multiplexer::Caller;
use crate::v1::{self, ErrorReason};

const RENEWAL_RETRY: Duration = Duration::from_secs(2);

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
