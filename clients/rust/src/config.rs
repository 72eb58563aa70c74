//! Where the server is, and how a client behaves.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::error::Error;
use crate::v1;

/// Where the server is, and how a client behaves.
///
/// ```no_run
/// # fn main() -> Result<(), restante::Error> {
/// let config = restante::Config::new("localhost:2051").trust_file("ca.pem")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) address: String,
    roots: Option<Vec<u8>>,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
    pub(crate) forget_password: bool,
    pub(crate) on_session: Option<Arc<OnSession>>,
}

type OnSession = dyn Fn(&v1::Session) + Send + Sync;

impl Config {
    /// For a server at `HOST:PORT`. The connection is always encrypted; the system's roots are trusted.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            roots: None,
            timeout: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            forget_password: false,
            on_session: None,
        }
    }

    /// Trusts the certificates of a PEM text, and no others. The code is `InvalidArgument` where there are none.
    pub fn trust_pem(mut self, pem: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let pem = pem.into();
        let begin = b"-----BEGIN CERTIFICATE-----";
        if !pem.windows(begin.len()).any(|some| some == begin) {
            return Err(Error::new(Code::InvalidArgument, "The PEM text has no certificate."));
        }
        self.roots = Some(pem);
        Ok(self)
    }

    /// Trusts the certificates of a PEM file, and no others.
    pub fn trust_file(self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let pem = std::fs::read(path).map_err(|cause| Error::caused(Code::InvalidArgument, cause))?;
        self.trust_pem(pem)
    }

    /// The time of a call, retries included, that says none itself: 30 seconds at first. A stream that breaks is tried
    /// again in vain for as long before it fails.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long operations wait for a server that cannot be reached before they fail as unavailable, and may be tried
    /// again: 5 seconds at first.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Makes the session end where it cannot be renewed any more, after 24 hours at the latest. Otherwise the password
    /// is kept in memory and begins the next session then.
    pub fn forget_password(mut self) -> Self {
        self.forget_password = true;
        self
    }

    /// Has a function told of each new session token. It must not block.
    pub fn on_session(mut self, told: impl Fn(&v1::Session) + Send + Sync + 'static) -> Self {
        self.on_session = Some(Arc::new(told));
        self
    }

    /// A plain channel as the clients of this crate have it, for programs that use the generated stubs by themselves.
    /// It connects with the first call. The code is `InvalidArgument` for an address that is none.
    pub fn channel(&self) -> Result<Channel, Error> {
        let refused = |cause| Error::caused(Code::InvalidArgument, cause);
        let tls = match &self.roots {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).map_err(refused)?;
        let endpoint = endpoint.user_agent(concat!("restante-rust/", env!("CARGO_PKG_VERSION"))).map_err(refused)?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(60))
            .keep_alive_timeout(Duration::from_secs(20))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .tls_config(tls)
            .map_err(refused)?;
        Ok(endpoint.connect_lazy())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Config").field("address", &self.address).finish_non_exhaustive()
    }
}
