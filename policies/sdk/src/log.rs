//! The `log` capability.

pub use crate::bindings::postern::policy::log::Level;
use crate::imports;

/// Writes a line to the host's log, under the policy's name and the request's id. The macros [`debug!`](crate::debug),
/// [`info!`](crate::info), [`warn!`](crate::warn) and [`error!`](crate::error) format one.
///
/// Never log credentials or bodies: more people can read logs than requests.
pub fn log(level: Level, message: &str) {
    imports::log::write(level, message);
}

/// Logs at debug level, with the syntax of `format!`.
#[macro_export]
macro_rules! debug {
    ($($argument:tt)*) => { $crate::log($crate::Level::Debug, &::std::format!($($argument)*)) };
}

/// Logs at info level, with the syntax of `format!`.
#[macro_export]
macro_rules! info {
    ($($argument:tt)*) => { $crate::log($crate::Level::Info, &::std::format!($($argument)*)) };
}

/// Logs at warn level, with the syntax of `format!`.
#[macro_export]
macro_rules! warn {
    ($($argument:tt)*) => { $crate::log($crate::Level::Warn, &::std::format!($($argument)*)) };
}

/// Logs at error level, with the syntax of `format!`.
#[macro_export]
macro_rules! error {
    ($($argument:tt)*) => { $crate::log($crate::Level::Error, &::std::format!($($argument)*)) };
}
