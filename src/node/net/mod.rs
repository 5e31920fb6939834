//! The sockets of the shell, behind one name, so that a simulation can put its own in their place.

#[cfg(not(feature = "sim"))]
mod real;

#[cfg(not(feature = "sim"))]
pub use real::*;

#[cfg(feature = "sim")]
pub use crate::node::sim::net::*;
