//! The `signing` section: a KMS proxy, or a key for development only.
//!
//! The environment overrides the file: `SIGNING_PROXY_URL` (or `KMS_ENDPOINT`), `SIGNING_PROXY_API_KEY`, `SIGNER_ID`,
//! `REQUIRE_SIGNING_PROXY` (or `REQUIRE_KMS`), `REPOWRITER_SIGNING_SECRET`.

use std::collections::BTreeMap;
use std::path::Path;

use deserr::Deserr;
use postern_config::{ConfigErrors, HumanDuration, SecretRef};
use postern_serve::{MAX_FILE_SIZE, Variables};
use postern_signers::{Use, is_signer_id};
use postern_signing::{Auth, Mode, ProxySettings, Settings, SignerSelection};
use secrecy::SecretString;
use url::Url;

/// The schema of `signing`.
#[derive(Debug, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Section {
    #[deserr(default)]
    proxy: Option<String>,
    #[deserr(default)]
    token: Option<SecretRef>,
    #[deserr(default)]
    certificate: Option<Certificate>,
    #[deserr(default)]
    ca: Option<String>,
    #[deserr(default)]
    signer: Option<String>,
    #[deserr(default)]
    uses: Uses,
    #[deserr(default = false)]
    send_signer_id: bool,
    #[deserr(default)]
    signers: Option<String>,
    #[deserr(default = false)]
    required: bool,
    #[deserr(default)]
    deadline: Option<HumanDuration>,
    #[deserr(default)]
    connect: Option<HumanDuration>,
}

/// The signers of single uses, instead of `signer`.
#[derive(Debug, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct Uses {
    #[deserr(default)]
    payload: Option<String>,
    #[deserr(default)]
    manifest: Option<String>,
    #[deserr(default)]
    checkpoint: Option<String>,
    #[deserr(default)]
    rotation: Option<String>,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct Certificate {
    file: String,
    key: String,
}

/// Validates the section; `None` if neither the file nor the environment configures signing.
pub(super) fn signing(
    section: Option<&Section>,
    directory: &Path,
    variables: &Variables<'_>,
    errors: &mut ConfigErrors,
) -> Option<Settings> {
    let is_present = section.is_some();
    let default = Section::default();
    let section = section.unwrap_or(&default);
    let url = url(section, variables, errors);
    let mut required = section.required;
    for name in ["REQUIRE_SIGNING_PROXY", "REQUIRE_KMS"] {
        // A switch that is off does not override the file or the other switch.
        required |= variables.switch(name, false, errors);
    }
    let development_secret = variables.secret("REPOWRITER_SIGNING_SECRET");
    if !is_present && url.is_none() && !required && development_secret.is_none() {
        return None;
    }
    if let Err(error) = Mode::resolve(url.is_some(), required, development_secret.is_some()) {
        errors.add("signing", error.to_string());
    }
    let proxy = url.and_then(|url| proxy(section, url, directory, variables, errors));
    Some(Settings {
        proxy,
        required,
        development_secret,
    })
}

fn url(section: &Section, variables: &Variables<'_>, errors: &mut ConfigErrors) -> Option<Url> {
    let from_env = ["SIGNING_PROXY_URL", "KMS_ENDPOINT"].map(|name| variables.value(name));
    if let [Some(one), Some(other)] = &from_env
        && one != other
    {
        errors.add(
            "",
            "SIGNING_PROXY_URL and KMS_ENDPOINT in the environment differ: set one of them",
        );
    }
    let written = from_env.into_iter().flatten().next();
    let text = written.or_else(|| section.proxy.clone())?;
    // The value is not printed: it may contain a password.
    Url::parse(&text)
        .map_err(|_| {
            errors.add(
                "signing.proxy",
                "is not a URL: write https://kms.example.com:8443",
            )
        })
        .ok()
}

fn proxy(
    section: &Section,
    url: Url,
    directory: &Path,
    variables: &Variables<'_>,
    errors: &mut ConfigErrors,
) -> Option<ProxySettings> {
    let Some(signers) = &section.signers else {
        let message = "must name the registry of signers, such as signers.toml: signatures of other signers are rejected; \
                       `postern signer add` writes it";
        errors.add("signing.signers", message);
        return None;
    };
    let mut settings = ProxySettings::new(url, directory.join(signers));
    settings.auth = auth(section, directory, variables, errors);
    settings.ca_pem = section
        .ca
        .as_ref()
        .and_then(|file| read("signing.ca", file, directory, errors));
    settings.selection = selection(section, variables, errors);
    if let Some(deadline) = section.deadline {
        settings.deadline = deadline.0;
    }
    if let Some(connect) = section.connect {
        settings.connect = connect.0;
    }
    Some(settings)
}

/// The signers that must sign.
fn selection(section: &Section, variables: &Variables<'_>, errors: &mut ConfigErrors) -> SignerSelection {
    let signer_id = variables.value("SIGNER_ID").or_else(|| section.signer.clone());
    let written = [
        (Use::Payload, &section.uses.payload),
        (Use::Manifest, &section.uses.manifest),
        (Use::Checkpoint, &section.uses.checkpoint),
        (Use::Rotation, &section.uses.rotation),
    ];
    let uses: BTreeMap<_, _> = written
        .into_iter()
        .filter_map(|(what, id)| Some((what, id.clone()?)))
        .collect();
    for (what, id) in &uses {
        if !is_signer_id(id) {
            let message = "is not a signer id: it has 1 to 128 letters, digits, and . _ - : /";
            errors.add(format!("signing.uses.{what}"), message);
        }
    }
    let another = uses.values().any(|id| Some(id) != signer_id.as_ref());
    if another && !section.send_signer_id {
        let message = "names other signers than `signer`, but requests to the proxy do not name the signer: set send_signer_id: true \
                       if the proxy accepts a signer_id, as `postern kms-proxy` does";
        errors.add("signing.uses", message);
    }
    SignerSelection {
        signer_id,
        uses,
        send_signer_id: section.send_signer_id,
    }
}

fn auth(section: &Section, directory: &Path, variables: &Variables<'_>, errors: &mut ConfigErrors) -> Auth {
    let token = match &section.token {
        Some(named) => variables.named_secret("signing.token", named, errors),
        None => variables.secret("SIGNING_PROXY_API_KEY"),
    };
    match (token, &section.certificate) {
        (Some(_), Some(_)) => {
            errors.add(
                "signing.certificate",
                "is set as well as a token: set one of them",
            );
            Auth::None
        }
        (Some(token), None) => Auth::Bearer(token),
        (None, Some(Certificate { file, key })) => {
            let file = read("signing.certificate.file", file, directory, errors);
            let key = read("signing.certificate.key", key, directory, errors);
            match (file, key) {
                (Some(certificate_pem), Some(key_pem)) => Auth::Certificate {
                    certificate_pem,
                    key_pem: SecretString::from(key_pem),
                },
                _ => Auth::None,
            }
        }
        (None, None) => Auth::None,
    }
}

fn read(at: &str, file: &str, directory: &Path, errors: &mut ConfigErrors) -> Option<String> {
    let read = postern_files::read_to_string(&directory.join(file), MAX_FILE_SIZE);
    read.map_err(|error| errors.add(at, format!("cannot be read: {error}")))
        .ok()
}
