//! The Rust client of Restante, a mail platform with a gRPC API.
//!
//! A [`Client`] is one user's session. It makes any unary RPC of the contract, which its request names:
//!
//! ```no_run
//! # async fn example() -> Result<(), restante::Error> {
//! use restante::{Client, Config, v1};
//!
//! let config = Config::new("localhost:2051").trust_file("ca.pem")?;
//! let client = Client::log_on(config, "alice@example.test", "alice-demo").await?;
//! let request = v1::GetFolderRequest { path: vec!["INBOX".into()], ..Default::default() };
//! let folder = client.call(request).await?.folder;
//! # Ok(())
//! # }
//! ```
//!
//! What goes through it is looked after: the session is renewed in the background; a missing request id is made, once
//! for all attempts; reads see what this client has written; what is only temporary is tried again until the call's time
//! is over, after the delay that the server asks for. Calls of any number of tasks travel together in one Execute
//! stream.
//!
//! Beside calls there are [`Client::pages`] for lists, [`Client::execute`] for many operations at once and in order,
//! [`Client::upload`] and [`Client::open_content`] for octets, [`Client::watch`], [`Client::watch_mailbox`] and
//! [`Client::sync`] for changes, and [`Client::stream_messages`] for bulk reads. The streams are opened again by
//! themselves when they break. Whatever is dropped is cancelled, at the server too.
//!
//! Every failure is an [`Error`]: it has the gRPC status code, the contract's reason with its metadata, and the delay
//! that the server asks for:
//!
//! ```
//! # fn example(error: restante::Error) {
//! use restante::v1::ErrorReason;
//!
//! match error.reason() {
//!     ErrorReason::QuotaExceeded => println!("at most {} octets", error.metadata()["limit_octets"]),
//!     _ => println!("{error}"),
//! }
//! # }
//! ```

mod calls;
mod changes;
mod client;
mod config;
mod content;
mod core;
mod error;
mod events;
mod jobs;
mod link;
mod messages;
mod multiplexer;
mod parts;
mod renewal;
mod retry;
pub mod rpc;
mod session;
mod subscriptions;
mod watch;
mod wire;

pub use calls::new_request_id;
pub use changes::{FolderEvent, MailboxEvent, WatchOptions};
pub use client::{Call, Client, ExecuteOptions, Operation, Pages};
pub use config::Config;
pub use content::Content;
pub use error::{Error, FieldViolation};
pub use events::Events;
pub use link::authorize;
pub use messages::{Row, rows};
pub use parts::{attachments, find_part, parts_of};
pub use rpc::{List, Rpc};
pub use tonic::Code;
pub use wire::OctetsCodec;

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The contract's messages and stubs, made from protos/restante/v1. Their comments explain limits and errors.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("restante.v1");
}
