//! The library that applications use.
//!
//! A [`Client`] knows all nodes and the ring, keeps both current, and sends each key to its primary.
//! When a node fails, it tries the next one within the deadline of the call, as long as that is safe:
//! what may have run and must not run twice ends with [`Error::Unknown`] instead. It is cheap to clone,
//! and all its clones share their connections.
//!
//! ```
//! # mod a_node { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster-tests/support/example.rs")); }
//! # a_node::example(async |address| {
//! use std::time::Duration;
//!
//! use cachegopher::client::Client;
//! use cachegopher::client::SetOptions;
//!
//! // One address is enough to find all nodes; several find them also while one is down.
//! let client = Client::connect([address, "127.0.0.1:31338"]).await?;
//!
//! client.set("greeting", "hello").await?;
//! assert_eq!(client.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
//!
//! let for_a_minute = SetOptions::new().expire_in(Duration::from_secs(60)).if_absent();
//! assert!(client.set_with("lock", "mine", for_a_minute).await?);
//! assert_eq!(client.increment("visits", 1).await?, 1);
//! # Ok(()) });
//! ```
//!
//! # When something goes wrong
//!
//! [`Error`] says by its variants what has happened to the data and what to do:
//!
//! | error | has it run? | what to do |
//! |---|---|---|
//! | [`Error::Unavailable`] | no | try again later, or treat it as a miss |
//! | [`Error::Unknown`] | perhaps | repeat it if twice does no harm, otherwise read first |
//! | [`Error::Refused`] | no | change the request |
//! | [`Error::Type`] | no | ask for the type that was stored |
//! | [`Error::Settings`] | no | change the settings |
//! | [`Error::Protocol`] | perhaps | check the address and the version |
//!
//! # Log
//!
//! All events have the target [`LOG_TARGET`]: `warn` for a node that fails, `info` for a change of the
//! ring, `debug` for each failed attempt. Neither keys nor values are logged.
//!
//! # Features
//!
//! `typed` (on by default): values of any type that `serde` knows, see [`Client::set_as`].

pub mod admin;
mod api;
mod call;
mod connection;
mod error;
mod many;
mod map;
mod nodes;
mod pool;
mod request;
mod settings;
pub mod text;
#[cfg(feature = "typed")]
mod typed;

pub use api::Client;
pub use api::SetOptions;
pub use api::TimeToLive;
pub use connection::Connection;
pub use error::Error;
pub use map::NodeInfo;
pub use map::RingRange;
pub use settings::ReadFrom;
pub use settings::Settings;

pub use crate::protocol::resp::Answer;

/// The target of everything that the library logs.
pub const LOG_TARGET: &str = "cachegopher::client";
