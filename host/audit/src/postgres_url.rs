//! The URL of a Postgres store. A connection to another machine requires TLS unless the URL disables it.

use std::net::IpAddr;
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// The known parameters. An unknown one is a mistake, and could hold a secret that the client library would log.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// A URL that is not that of a usable Postgres store. The texts do not repeat it: it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostgresUrlError {
    /// Not a Postgres URL.
    #[error("the Postgres URL is invalid: write postgres://user:password@host/database")]
    Invalid,
    /// An unknown parameter.
    #[error(
        "the Postgres URL has an unknown parameter; known are sslmode, sslrootcert, sslcert, sslkey, host, \
         hostaddr, port, dbname, user, password, application_name, options and statement-cache-capacity"
    )]
    UnknownParameter,
    /// The connection could fall back to plaintext.
    #[error(
        "the connection to Postgres leaves this machine and sslmode allows plaintext: write \
         ?sslmode=verify-full (with &sslrootcert=ca.pem for a CA of your own), or ?sslmode=disable where the network \
         itself is protected"
    )]
    Plaintext,
}

/// Checks that a URL is that of a usable Postgres store.
///
/// # Errors
/// If it is not.
pub fn check_postgres_url(url: &str) -> Result<(), PostgresUrlError> {
    options(url).map(drop)
}

/// Parses the connection options. On the same machine TLS is optional; otherwise the server is verified (`verify-full`)
/// unless the URL or `PGSSLMODE` says `verify-ca`, `require` or `disable`.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, PostgresUrlError> {
    let parsed = Url::parse(url).map_err(|_| PostgresUrlError::Invalid)?;
    if !matches!(parsed.scheme(), "postgres" | "postgresql") {
        return Err(PostgresUrlError::Invalid);
    }
    let known = |name: &str| PARAMETERS.contains(&name) || name == "options" || name.starts_with("options[");
    if !parsed.query_pairs().all(|(name, _)| known(&name)) {
        return Err(PostgresUrlError::UnknownParameter);
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| PostgresUrlError::Invalid)?;
    if is_local(&options) {
        return Ok(options);
    }
    let has_ssl_mode = parsed
        .query_pairs()
        .any(|(name, _)| matches!(&*name, "sslmode" | "ssl-mode"))
        || std::env::var_os("PGSSLMODE").is_some();
    match options.get_ssl_mode() {
        _ if !has_ssl_mode => Ok(options.ssl_mode(PgSslMode::VerifyFull)),
        PgSslMode::Allow | PgSslMode::Prefer => Err(PostgresUrlError::Plaintext),
        PgSslMode::Disable | PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => Ok(options),
    }
}

/// Whether the connection is to a Unix socket or a loopback address.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_to_another_machine_requires_tls() {
        for (url, expected) in [
            ("postgres://u:p@localhost/a", Ok("Prefer")),
            ("postgres://u:p@127.0.0.2:5432/a", Ok("Prefer")),
            ("postgres://u:p@[::1]/a", Ok("Prefer")),
            ("postgres://u:p@localhost/a?host=/run/postgresql", Ok("Prefer")),
            ("postgres://u:p@db/a", Ok("VerifyFull")),
            ("postgresql://u:p@10.0.0.7/a", Ok("VerifyFull")),
            ("postgres://u:p@localhost/a?host=db", Ok("VerifyFull")),
            ("postgres://u:p@localhost/a?hostaddr=10.0.0.7", Ok("VerifyFull")),
            ("postgres://u:p@localhost.example.com/a", Ok("VerifyFull")),
            ("postgres://u:p@db/a?sslmode=require", Ok("Require")),
            (
                "postgres://u:p@db/a?sslmode=verify-ca&sslrootcert=ca.pem",
                Ok("VerifyCa"),
            ),
            ("postgres://u:p@db/a?sslmode=disable", Ok("Disable")),
            (
                "postgres://u:p@db/a?sslmode=prefer",
                Err(PostgresUrlError::Plaintext),
            ),
            (
                "postgres://u:p@db/a?ssl-mode=allow",
                Err(PostgresUrlError::Plaintext),
            ),
            ("postgres://u:p@db/a?sslmode=yes", Err(PostgresUrlError::Invalid)),
            (
                "postgres://u:p@db/a?sslpassword=hunter2",
                Err(PostgresUrlError::UnknownParameter),
            ),
            ("mysql://u:p@db/a", Err(PostgresUrlError::Invalid)),
            ("postgres://u:p@db:x/a", Err(PostgresUrlError::Invalid)),
        ] {
            let mode = options(url).map(|options| format!("{:?}", options.get_ssl_mode()));
            assert_eq!(mode, expected.map(str::to_owned), "{url}");
        }
    }
}
