//! PKCS#11 access to the token. All calls block.

mod error;
mod keygen;
mod login;
mod point;
mod session;

pub(crate) use error::Recovery;
pub use error::TokenError;
pub use keygen::{find, generate};
pub use login::{Login, Module};
pub use point::{PointError, public_key};
pub use session::TokenSession;
