//! What a client knows of its session.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::link::locked;
use crate::v1;

const SHORTEST_RENEWAL: Duration = Duration::from_millis(200);

/// The session, and why it ended.
#[derive(Default)]
pub(crate) struct Session {
    pub changing: tokio::sync::Mutex<()>, // held while the session is being replaced
    pub present: Mutex<Present>,
    pub ended: CancellationToken,
    reason: OnceLock<Error>,
}

#[derive(Default)]
pub(crate) struct Present {
    pub info: v1::Session,
    pub lapses: Option<Instant>, // by this machine's monotonic clock: the server's clock may be another
    pub token: Bytes,
    pub password: Option<String>,
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
    pub fn until_renewal(&self, now: Instant) -> Duration {
        renewal_after(locked(&self.present).lapses, now)
    }
}

fn renewal_after(lapses: Option<Instant>, now: Instant) -> Duration {
    let left = lapses.map(|moment| moment.saturating_duration_since(now)).unwrap_or_default();
    (left / 2).max(SHORTEST_RENEWAL)
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
