//! Validates the values of `kms-proxy.yaml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use deserr::errors::helpers::did_you_mean;
use postern_config::{ConfigErrors, Digest, Entries, SecretRef};
use postern_serve::tls::TlsFiles;
use postern_serve::{Address, TokenDigest, Variables};
use postern_signers::{Uses, is_signer_id};
use secrecy::SecretString;

use super::schema::{self, File};
use super::{Caller, Keys, Mode, Settings, SignerKey, Token, TokenName};
use crate::secret_file::{self, Access};

/// PKCS#11 pads the label of a token to this many bytes, and its serial number to half of them.
const MAX_LABEL_BYTES: usize = 32;

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) fn settings(
    file: File,
    directory: &Path,
    mode: Mode,
    variable: Lookup<'_>,
) -> Result<Settings, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let callers = callers(&file.callers, variable, &mut errors);
    let listen = listen(&file, directory, &mut errors);
    let keys = keys(&file, directory, mode, variable, &mut errors);
    let tls = file.tls.map(|written| TlsFiles {
        certificate: directory.join(written.certificate),
        key: directory.join(written.key),
        client_ca: written.client_ca.map(|path| directory.join(path)),
    });
    let log = file.log;
    match (listen, keys) {
        (Some(listen), Some(keys)) if errors.issues().is_empty() => Ok(Settings {
            listen,
            tls,
            callers,
            keys,
            log,
        }),
        _ => Err(errors),
    }
}

pub(super) fn token_only(file: File, directory: &Path, variable: Lookup<'_>) -> Result<Token, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    match &file.token {
        None => errors.add("token", "must name the token for the key"),
        Some(written) => {
            if let Some(token) = token(written, directory, variable, &mut errors)
                && errors.issues().is_empty()
            {
                return Ok(token);
            }
        }
    }
    Err(errors)
}

/// The address, if its callers are authenticated as it requires.
fn listen(file: &File, directory: &Path, errors: &mut ConfigErrors) -> Option<Address> {
    let address = Address::parse(&file.listen, directory)
        .map_err(|error| errors.add("listen", error.to_string()))
        .ok()?;
    let known = !file.callers.is_empty() || file.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    match address {
        Address::Tcp(tcp) => {
            if file.tls.is_none() && !tcp.ip().is_loopback() {
                let message = "needs \"tls: {certificate: .., key: ..}\" as well: payloads and bearer tokens would \
                               cross the network unencrypted";
                errors.add("listen", message);
            }
            if !known {
                let message = "needs callers (bearer tokens) or tls.client_ca (client certificates): anyone who reaches \
                               a port could sign anything; a Unix socket needs neither";
                errors.add("listen", message);
            }
        }
        Address::Unix(_) if file.tls.is_some() => {
            errors.add(
                "tls",
                "is only allowed with a TCP port: a Unix socket stays on this machine",
            );
        }
        Address::Unix(_) => {}
    }
    Some(address)
}

fn callers(
    written: &Entries<schema::Caller>,
    variable: Lookup<'_>,
    errors: &mut ConfigErrors,
) -> Vec<Caller> {
    let mut callers: Vec<Caller> = Vec::new();
    for (name, caller) in written.iter() {
        let at = format!("callers.{name}");
        if !is_signer_id(name) {
            errors.add(
                &at,
                "must be named with 1 to 128 letters, digits, `.`, `_`, `-`, `:` and `/`",
            );
        }
        let Some(digest) = digest(&at, caller, variable, errors) else {
            continue;
        };
        if let Some(other) = callers.iter().find(|other| other.digest == digest) {
            errors.add(
                &at,
                format!(
                    "has the same token as {}: they could not be distinguished",
                    other.name
                ),
            );
        }
        callers.push(Caller {
            name: name.clone(),
            digest,
            permission: caller.may,
        });
    }
    callers
}

fn digest(
    at: &str,
    caller: &schema::Caller,
    variable: Lookup<'_>,
    errors: &mut ConfigErrors,
) -> Option<TokenDigest> {
    match (&caller.env, caller.digest) {
        (Some(env), None) => {
            let named = SecretRef { env: env.clone() };
            Variables::new(variable).named_token(at, &named, errors)
        }
        (None, Some(digest)) => {
            if Digest::of_placeholders().contains(&digest) {
                let message =
                    "is the digest of an empty value, or of what an unset variable becomes, such as \"null\"";
                errors.add(format!("{at}.digest"), message);
            }
            Some(digest.0.into())
        }
        _ => {
            let message =
                "needs either `env` (the variable that holds its token) or `digest` (the token's SHA-256)";
            errors.add(at, message);
            None
        }
    }
}

fn keys(
    file: &File,
    directory: &Path,
    mode: Mode,
    variable: Lookup<'_>,
    errors: &mut ConfigErrors,
) -> Option<Keys> {
    if file.development.is_some() && mode == Mode::Production {
        errors.add("development", "is only allowed with --development");
    }
    match (&file.token, &file.development) {
        (Some(_), Some(_)) => {
            errors.add(
                "development",
                "is not allowed with `token`: a proxy signs with one or the other",
            );
            None
        }
        (None, Some(written)) => {
            for (field, there) in [
                ("signers", !file.signers.is_empty()),
                ("current", file.current.is_some()),
            ] {
                if there {
                    errors.add(
                        field,
                        "is only allowed with `token`: the id of a development key is derived from it",
                    );
                }
            }
            Some(Keys::Software(
                written.key.as_ref().map(|path| directory.join(path)),
            ))
        }
        (Some(written), None) => {
            let signers = signers(&file.signers, errors);
            let current = current(file, errors);
            Some(Keys::Token {
                token: token(written, directory, variable, errors)?,
                signers,
                current: current?,
                lenient: mode == Mode::Development,
            })
        }
        (None, None) => {
            errors.add(
                "token",
                "must name the token that holds the keys; for a key in software write \"development: {}\" and start with \
                 --development",
            );
            None
        }
    }
}

fn signers(written: &Entries<schema::Signer>, errors: &mut ConfigErrors) -> BTreeMap<String, SignerKey> {
    let mut signers = BTreeMap::new();
    for (id, signer) in written.iter() {
        let at = format!("signers.{id}");
        if !is_signer_id(id) {
            errors.add(
                &at,
                "must be named with 1 to 128 letters, digits, `.`, `_`, `-`, `:` and `/`",
            );
        }
        if signer.label.is_empty() {
            errors.add(format!("{at}.label"), "must not be empty");
        }
        let names = signer.uses.as_ref().map(|names| names.iter().map(String::as_str));
        let uses = names.map(Uses::parse).transpose();
        let uses = uses.unwrap_or_else(|problem| {
            errors.add(format!("{at}.uses"), problem);
            None
        });
        let label = signer.label.clone();
        signers.insert(id.clone(), SignerKey { label, uses });
    }
    if written.is_empty() {
        errors.add(
            "signers",
            "must have at least one entry: {kernel-2026: {label: kernel-2026, uses: [payload]}}",
        );
    }
    signers
}

fn current(file: &File, errors: &mut ConfigErrors) -> Option<String> {
    match &file.current {
        None => {
            errors.add("current", "must name one of the signers");
            None
        }
        Some(id) if !file.signers.contains_key(id) => {
            let known: Vec<_> = file.signers.keys().map(String::as_str).collect();
            let message = format!(
                "there is no signer \"{id}\": {}the signers are {}",
                did_you_mean(id, &known),
                known.join(", ")
            );
            errors.add("current", message);
            None
        }
        Some(id) => Some(id.clone()),
    }
}

fn token(
    written: &schema::Token,
    directory: &Path,
    variable: Lookup<'_>,
    errors: &mut ConfigErrors,
) -> Option<Token> {
    let name = match (&written.label, &written.serial) {
        (Some(label), None) => Some(TokenName::Label(label.clone())),
        (None, Some(serial)) => Some(TokenName::Serial(serial.clone())),
        _ => {
            errors.add("token", "needs either `label` or `serial`");
            None
        }
    };
    for (field, text) in [("label", &written.label), ("serial", &written.serial)] {
        let fits = |text: &String| (1..=MAX_LABEL_BYTES).contains(&text.len());
        if !text.as_ref().is_none_or(fits) {
            errors.add(
                format!("token.{field}"),
                format!("must have 1 to {MAX_LABEL_BYTES} bytes"),
            );
        }
    }
    for (field, number, least, most) in [
        ("sessions", written.sessions, 1, 256),
        ("queue", written.queue, 0, 65536),
    ] {
        if !(least..=most).contains(&number) {
            errors.add(
                format!("token.{field}"),
                format!("must be from {least} to {most}"),
            );
        }
    }
    if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&written.deadline.0) {
        errors.add("token.deadline", "must be from 10ms to 60s");
    }
    let pin = pin(&written.pin, directory, variable, errors);
    Some(Token {
        module: directory.join(&written.module),
        name: name?,
        pin: pin?,
        sessions: written.sessions,
        queue: written.queue,
        deadline: written.deadline.0,
    })
}

fn pin(
    written: &schema::Pin,
    directory: &Path,
    variable: Lookup<'_>,
    errors: &mut ConfigErrors,
) -> Option<SecretString> {
    match (&written.env, &written.file) {
        (Some(env), None) => {
            let named = SecretRef { env: env.clone() };
            Variables::new(variable).named_secret("token.pin", &named, errors)
        }
        (None, Some(file)) => {
            let file = directory.join(file);
            let read = pin_file(&file);
            read.map_err(|reason| errors.add("token.pin.file", format!("{}: {reason}", file.display())))
                .ok()
        }
        _ => {
            errors.add("token.pin", "needs either `env` (a variable) or `file`");
            None
        }
    }
}

/// The PIN in a file, without the line end.
fn pin_file(file: &Path) -> Result<SecretString, String> {
    let text = secret_file::read(file, Access::Group)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("is empty".to_owned()),
        pin => Ok(SecretString::from(pin)),
    }
}
