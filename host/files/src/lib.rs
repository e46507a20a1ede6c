//! Reads files that operators provide: configuration, modules, keys.
//!
//! A configured path can name anything: a FIFO without a writer, a device, a mount whose server is unreachable. Reading it
//! must not block a server. So only regular files are read ([`open`]), up to a maximum size ([`read()`]), and servers read
//! them on a separate thread with a deadline ([`read_with_deadline`], [`with_deadline`]).

mod deadline;
mod read;

pub use deadline::{DeadlineError, read_with_deadline, with_deadline};
pub use read::{open, read, read_to_string};
