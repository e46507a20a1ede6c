//! The output of `postern serve --check`.

use postern_server::{Inspection, Settings};

use crate::output::{Exit, Output};
use crate::style::Style;
use crate::text::{counted, printable};

/// Reports the results of loading everything.
pub(super) fn inspection(file: &str, settings: &Settings, found: &Inspection) -> Output {
    let style = Style::stdout();
    let entries = counted(found.policies.len(), "entry", "entries");
    let verdict = match found.errors.len() {
        0 => style.success("valid"),
        failed => style.error(&format!(
            "{} cannot be served",
            counted(failed, "entry", "entries")
        )),
    };
    let mut out = format!("{}: {verdict}: {entries}", printable(file));
    let listen: Vec<_> = settings.listen.iter().map(ToString::to_string).collect();
    out.push_str(&format!(", for gates at {}", printable(&listen.join(" "))));
    if let Some(admin) = &settings.admin {
        out.push_str(&format!(
            ", for operators at {}",
            printable(&admin.listen.to_string())
        ));
    }
    out.push('\n');
    if let Some(signing) = &settings.signing {
        let signer = match &signing.proxy {
            Some(proxy) => format!("with the KMS proxy at {}", proxy.url),
            None => style.error("with a key for development only"),
        };
        let required = if signing.required {
            ", which is required"
        } else {
            ""
        };
        out.push_str(&format!("  signs {signer}{required}\n"));
    }
    if let Some(audit) = &settings.audit {
        let store = match &audit.log.store {
            postern_audit::Store::Sqlite(path) => path.display().to_string(),
            // The URL may hold a password.
            postern_audit::Store::Postgres(_) => "Postgres".to_owned(),
        };
        out.push_str(&format!("  audit log in {}\n", printable(&store)));
    }
    let head = Style::stderr().error("error:");
    let mut err = String::new();
    for policy in &found.policies {
        let name = printable(&policy.name);
        match (&policy.digest, found.errors.get(&policy.name)) {
            (Some(digest), None) => {
                let signers = match policy.signers.as_slice() {
                    [] => "unsigned".to_owned(),
                    signers => format!("signed by {}", signers.join(", ")),
                };
                let (kind, size) = (policy.kind.unwrap_or_default(), policy.size.unwrap_or_default());
                out.push_str(&format!(
                    "  {name}: {kind}, {digest}, {size} bytes, {}\n",
                    printable(&signers)
                ));
            }
            (_, reason) => {
                let reason = reason.map_or("not loaded", String::as_str);
                err.push_str(&format!(
                    "{head} {}: policies.entries.{name}: {}\n",
                    printable(file),
                    printable(reason)
                ));
            }
        }
    }
    let exit = if found.errors.is_empty() {
        Exit::Allowed
    } else {
        Exit::Denied
    };
    Output { out, err, exit }
}
