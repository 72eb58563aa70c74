//! The connection to the server.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::config::Config;
use crate::error::Error;

/// Keeps the channel to the server. A stream that drained asks for a fresh one, which may reach another server; the old
/// one closes when nothing uses it any more.
pub(crate) struct Link {
    config: Config,
    state: Mutex<(u64, Option<Channel>)>,
}

impl Link {
    pub fn new(config: Config) -> Self {
        Self { config, state: Mutex::new((0, None)) }
    }

    /// The present channel, and its number.
    pub fn channel(&self) -> Result<(u64, Channel), Error> {
        let mut state = locked(&self.state);
        let channel = match &state.1 {
            Some(channel) => channel.clone(),
            None => state.1.insert(self.config.channel()?).clone(),
        };
        Ok((state.0, channel))
    }

    /// Makes `channel` give a fresh one from now on, unless it does so already.
    pub fn retire(&self, number: u64) {
        let mut state = locked(&self.state);
        if state.0 == number {
            *state = (number + 1, None);
        }
    }

    /// Lets go of the present channel.
    pub fn close(&self) {
        locked(&self.state).1 = None;
    }
}

/// Locks what is never left half changed: a panic elsewhere does no harm to it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a session token to the metadata of a call that is made by a stub on a plain channel.
pub fn authorize<T>(message: T, token: &[u8]) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if !token.is_empty() {
        let text = format!("Bearer {}", URL_SAFE_NO_PAD.encode(token));
        if let Ok(mut value) = MetadataValue::try_from(text) {
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
    }
    request
}
