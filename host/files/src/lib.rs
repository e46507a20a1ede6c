//! Reads the files of operators: configuration, modules, keys.
//!
//! A path that someone wrote into a file can name anything: a FIFO whose other end nobody opens, a device, a mount whose
//! server is gone. Reading one must not stop a process that serves. So there are two rules here: only regular files are
//! read ([`open`]), up to a bound ([`read()`]); and a process that serves reads on a thread that may hang, with a deadline
//! ([`read_with_deadline`], [`with_deadline`]).

mod deadline;
mod read;

pub use deadline::{DeadlineError, read_with_deadline, with_deadline};
pub use read::{open, read, read_to_string};
