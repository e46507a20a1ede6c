//! What Postern's programs print, and how they end.
//!
//! A command returns an [`Output`](output::Output), which is printed at the end, with the exit code that scripts branch
//! on. Text from files and tokens is made [printable](text::printable) first, and [coloured](paint::Paint) for people at
//! a terminal alone. [`parse`] reads the command line.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod output;
pub mod paint;
mod parse;
pub mod signer_uses;
pub mod text;

pub use parse::parse;
