//! When to try again.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Decides about the attempts of one call or stream.
pub(crate) struct Retry {
    first: Duration,
    longest: Duration,
    pause: Duration,
    renewed: bool,
}

impl Retry {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, pause: first, renewed: false }
    }

    /// Begins anew: an attempt has brought something.
    pub fn worked(&mut self) {
        self.pause = self.first;
        self.renewed = false;
    }

    /// Whether a session may be renewed, which it may once.
    pub fn renewal(&mut self) -> bool {
        !std::mem::replace(&mut self.renewed, true)
    }

    /// How long to wait now, at least as long as the server asks for.
    pub fn delay(&mut self, asked: Option<Duration>) -> Duration {
        let chosen = jittered(self.pause).max(asked.unwrap_or_default());
        self.pause = (self.pause * 2).min(self.longest);
        chosen
    }

    /// Waits before the next attempt; `false`: there is no time for one.
    pub async fn wait(&mut self, failure: &Error, deadline: Instant) -> bool {
        let next = Instant::now() + self.delay(failure.retry_delay());
        if next > deadline {
            return false;
        }
        tokio::time::sleep_until(next).await;
        true
    }
}

/// Between the half and the whole of a pause.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut octets = [0; 4];
    // Without random octets it is the half: they only keep clients from calling in step.
    let _ = getrandom::getrandom(&mut octets);
    pause / 2 + pause.mul_f64(f64::from(u32::from_ne_bytes(octets)) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_millis(350);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_success() {
        let mut retry = Retry::new(FIRST, LONGEST);
        for whole in [100, 200, 350, 350] {
            let (delay, whole) = (retry.delay(None), Duration::from_millis(whole));
            assert!(delay >= whole / 2 && delay <= whole, "{delay:?} of {whole:?}");
        }
        retry.worked();
        assert!(retry.delay(None) <= FIRST);
    }

    #[test]
    fn the_server_is_given_the_time_it_asks_for() {
        let asked = Duration::from_secs(7);
        assert_eq!(Retry::new(FIRST, LONGEST).delay(Some(asked)), asked);
    }

    #[test]
    fn a_session_is_renewed_once_until_something_works() {
        let mut retry = Retry::new(FIRST, LONGEST);
        assert!(retry.renewal() && !retry.renewal());
        retry.worked();
        assert!(retry.renewal());
    }

    #[tokio::test]
    async fn nothing_is_tried_after_the_deadline() {
        let (mut retry, began) = (Retry::new(FIRST, LONGEST), Instant::now());
        let failure = Error::unavailable("Gone.");
        assert!(retry.wait(&failure, began + Duration::from_secs(1)).await);
        assert!(began.elapsed() >= FIRST / 2);
        assert!(!retry.wait(&failure, Instant::now() + Duration::from_millis(10)).await);
    }
}
