//! What every server of Postern needs.
//!
//! A process has so many file descriptors, and whoever reaches a port can use them up with connections that ask nothing.
//! So each listener has a bound on its connections ([`Connections`]), those of Unix sockets and operators keep a share
//! that a TCP port cannot take ([`Shares`]), and a connection that asks nothing, or stops in the middle, ends
//! ([`Bounded`]).

mod accept;
mod bearer;
mod connections;
mod idle;
mod open_files;

pub use accept::{Bounded, Stream, bounded};
pub use bearer::{Token, is_ambiguous, token};
pub use connections::{Connection, ConnectionMetrics, Connections};
pub use idle::Noted;
pub use open_files::{Shares, raise_open_files};
