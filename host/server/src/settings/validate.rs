//! Validates the values of `host.yaml`.

use std::path::Path;
use std::time::Duration;

use ct_codecs::{Base64, Decoder as _};
use deserr::errors::helpers::did_you_mean;
use ed25519_compact::PublicKey;
use postern_config::ConfigErrors;
use postern_policy::{Compiler, Signers, is_insecure};
use postern_serve::{Address, Variables};
use secrecy::ExposeSecret as _;

use super::schema::{self, File};
use super::{Admin, KeyValue, Settings};
use super::{audit, entries, gate, license, signing};

/// The instance pools reserve address space for each concurrent decision.
const MAX_CONCURRENCY: usize = 512;

/// For one listener.
const MAX_CONNECTIONS: usize = 1 << 20;

pub(super) fn settings(
    file: File,
    directory: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let variables = Variables::new(variable);
    let listen = listen(&file.listen, directory, &mut errors);
    let admin = file
        .admin
        .and_then(|written| admin(&written, directory, &variables, &mut errors));
    if !(16..=MAX_CONNECTIONS).contains(&file.connections) {
        errors.add("connections", format!("must be from 16 to {MAX_CONNECTIONS}"));
    }
    let gate = gate::gate(&file.gate, directory, &variables, &mut errors);
    let signing = signing::signing(file.signing.as_ref(), directory, &variables, &mut errors);
    let audit = file
        .audit
        .as_ref()
        .and_then(|written| audit::audit(written, directory, &variables, &mut errors));
    let license = license::license(&variables, &mut errors);
    if file.audit.is_some() && signing.is_none() {
        let message = "needs \"signing\", which signs its checkpoints: without them, a truncated log goes \
                       unnoticed; `signing: {}` uses a key for development only";
        errors.add("audit", message);
    }
    let tcp = listen.iter().any(|address| matches!(address, Address::Tcp(_)));
    if (signing.is_some() || audit.is_some()) && tcp && !gate.is_authenticated() {
        let message = "needs a token or TLS: not everyone who reaches a TCP port may sign and record events; \
                       or listen only on Unix sockets";
        errors.add("gate", message);
    }
    let written = file.policies;

    let strict = variables.switch("TAMPER_STRICT", written.tamper.strict, &mut errors);
    let check = variables.switch("TAMPER_CHECK", written.tamper.check, &mut errors);
    let every = written.tamper.interval.0;
    if every < Duration::from_secs(1) {
        errors.add("policies.tamper.interval", "must be at least 1s");
    }
    let signers = signers(&written, &mut errors);
    let keyvalue = match &written.keyvalue {
        schema::KeyValue::Memory => KeyValue::Memory,
        schema::KeyValue::Redis(written) => {
            let url = variables.named_secret("policies.keyvalue.redis", &written.redis, &mut errors);
            // An invalid URL is reported when it is opened.
            let insecure = |url: &str| is_insecure(url).unwrap_or(false);
            if !written.plaintext && url.as_ref().is_some_and(|url| insecure(url.expose_secret())) {
                let message = "connects to another machine without verified TLS: write rediss:// in the \
                               variable, or \"plaintext: true\" beside \"redis\" if the network is trusted";
                errors.add("policies.keyvalue.redis", message);
            }
            url.map_or(KeyValue::Memory, KeyValue::Redis)
        }
    };
    if written.entries.is_empty() && signing.is_none() && audit.is_none() {
        errors.add(
            "policies.entries",
            "must have at least one entry, unless the host signs or keeps an audit log",
        );
    }
    let listed = written.manifest.is_some();
    let entries = entries::entries(&written.entries, listed, strict, &mut errors);
    let concurrency = concurrency(written.concurrency, &entries, &mut errors);
    if let Some(name) = &written.default
        && !entries.contains_key(name)
    {
        let known: Vec<_> = entries.keys().map(String::as_str).collect();
        let message = format!(
            "there is no entry \"{name}\": {}the entries are {}",
            did_you_mean(name, &known),
            known.join(", ")
        );
        errors.add("policies.default", message);
    }
    if !errors.issues().is_empty() {
        return Err(errors);
    }
    Ok(Settings {
        listen,
        admin,
        connections: file.connections,
        gate,
        signing,
        audit,
        license,
        policies: postern_policy::Settings {
            directory: directory.to_owned(),
            manifest: written.manifest.map(Into::into),
            state: written.state.map(|path| directory.join(path)),
            signers,
            strict,
            entries,
        },
        default: written.default,
        compiler: Compiler::default(),
        cache: written.cache.map(|path| directory.join(path)),
        concurrency,
        watch: written.watch,
        // A host that rejects unverified files at start also checks for tampering later.
        tamper_check: (check || strict).then_some(every),
        keyvalue,
        log: file.log,
    })
}

fn listen(written: &[String], directory: &Path, errors: &mut ConfigErrors) -> Vec<Address> {
    if written.is_empty() {
        errors.add(
            "listen",
            "must name at least one address: no gate could reach this host",
        );
    }
    let mut addresses = Vec::new();
    for (i, text) in written.iter().enumerate() {
        match Address::parse(text, directory) {
            Ok(address) if addresses.contains(&address) => {
                errors.add(format!("listen[{i}]"), "is a duplicate")
            }
            Ok(address) => addresses.push(address),
            Err(error) => errors.add(format!("listen[{i}]"), error.to_string()),
        }
    }
    addresses
}

fn admin(
    written: &schema::Admin,
    directory: &Path,
    variables: &Variables<'_>,
    errors: &mut ConfigErrors,
) -> Option<Admin> {
    let token = written
        .token
        .as_ref()
        .and_then(|named| variables.named_token("admin.token", named, errors));
    let listen = match Address::parse(&written.listen, directory) {
        Ok(listen) => listen,
        Err(error) => {
            errors.add("admin.listen", error.to_string());
            return None;
        }
    };
    if let Address::Tcp(address) = listen {
        if !address.ip().is_loopback() {
            let message =
                "must be a Unix socket or a loopback address: anyone who reaches it can reload policies";
            errors.add("admin.listen", message);
        }
        if written.token.is_none() {
            let message = "needs \"token: {env: POSTERN_ADMIN_TOKEN}\" as well: anyone on this machine can reach a \
                           TCP port; a Unix socket does not need it";
            errors.add("admin.listen", message);
        }
    }
    Some(Admin { listen, token })
}

fn signers(written: &schema::Policies, errors: &mut ConfigErrors) -> Signers {
    if written.manifest.is_some() && written.signers.is_empty() {
        errors.add(
            "policies.signers",
            "must name the signers of the manifest: name: \"ed25519:<public key in Base64>\"",
        );
    }
    let mut signers = Signers::new();
    for (name, text) in written.signers.iter() {
        let key = text
            .strip_prefix("ed25519:")
            .and_then(|key| Base64::decode_to_vec(key, None).ok())
            .and_then(|bytes| PublicKey::from_slice(&bytes).ok());
        match key {
            Some(key) => {
                signers.insert(name.clone(), key);
            }
            // The value is not printed: it may be the private key.
            None => errors.add(
                format!("policies.signers.{name}"),
                "is not a public key: write ed25519: and its 32 bytes in Base64",
            ),
        }
    }
    signers
}

/// The entries must fit into the pools together, so that a busy entry does not take the place of another.
fn concurrency(written: Option<usize>, entries: &entries::EntryMap, errors: &mut ConfigErrors) -> usize {
    let at = "policies.concurrency";
    let sum = entries
        .values()
        .map(|entry| entry.limits.concurrency)
        .fold(0, usize::saturating_add);
    let all = written.unwrap_or(sum);
    if all < sum {
        let message = format!(
            "is {all}, but the entries may run {sum} concurrent decisions (64 each by default): raise it or lower theirs"
        );
        errors.add(at, message);
    }
    if !(1..=MAX_CONCURRENCY).contains(&all) && !entries.is_empty() {
        let message = format!(
            "must be from 1 to {MAX_CONCURRENCY}, but is {all}; the default is the sum of the entries"
        );
        errors.add(at, message);
    }
    all
}
