//! Lines in the host's log.

pub use crate::bindings::postern::policy::log::Level;
use crate::imports;

/// Writes a line to the host's log, under the policy's name and the request's id. The macros [`debug!`](crate::debug),
/// [`info!`](crate::info), [`warn!`](crate::warn) and [`error!`](crate::error) format one.
///
/// Never log what proves an identity, or a body: logs are read by more people than requests.
pub fn log(level: Level, message: &str) {
    imports::log::write(level, message);
}

/// Logs for whoever looks for a fault.
#[macro_export]
macro_rules! debug {
    ($($argument:tt)*) => { $crate::log($crate::Level::Debug, &::std::format!($($argument)*)) };
}

/// Logs what is worth to know.
#[macro_export]
macro_rules! info {
    ($($argument:tt)*) => { $crate::log($crate::Level::Info, &::std::format!($($argument)*)) };
}

/// Logs what somebody should look at.
#[macro_export]
macro_rules! warn {
    ($($argument:tt)*) => { $crate::log($crate::Level::Warn, &::std::format!($($argument)*)) };
}

/// Logs what went wrong.
#[macro_export]
macro_rules! error {
    ($($argument:tt)*) => { $crate::log($crate::Level::Error, &::std::format!($($argument)*)) };
}
