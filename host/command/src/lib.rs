//! What the programs print, and their exit codes.
//!
//! A command returns an [`Output`](output::Output), which is printed at the end, with the exit code that scripts branch
//! on. Text from files and tokens is made [printable](text::printable) first, and [coloured](style::Style) only on a
//! terminal. [`parse`] parses the command line.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod output;
mod parse;
pub mod signer_uses;
pub mod style;
pub mod text;

pub use parse::parse;
