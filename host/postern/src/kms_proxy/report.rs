//! What `postern kms-proxy` prints: of settings that are wrong, and of a proxy that was only checked.

use std::path::Path;

use postern_kms_proxy::{Settings, SettingsError, Signer};
use postern_signers::format_key;

use crate::output::{Exit, Output};
use crate::style::Style;
use crate::text::{counted, printable};

/// Settings that no proxy can be started from.
pub(super) fn invalid(file: &Path, error: &SettingsError) -> Output {
    let head = Style::stderr().error("error:");
    let problems = match error {
        SettingsError::Invalid(errors) => errors.issues().iter().map(ToString::to_string).collect(),
        SettingsError::Read(_) => vec![error.to_string()],
    };
    let mut err = String::new();
    for problem in &problems {
        err.push_str(&format!(
            "{head} {}\n",
            printable(&format!("{}: {problem}", file.display()))
        ));
    }
    err.push_str(&format!("{}\n", counted(problems.len(), "error", "errors")));
    Output {
        out: String::new(),
        err,
        exit: Exit::Invalid,
    }
}

/// Keys that can sign.
pub(super) fn sound(file: &Path, settings: &Settings, signers: &[Signer], current: &str) -> Output {
    let listen = settings.listen.to_string();
    let mut out = format!(
        "{}: {}: {}, for callers at {}\n",
        printable(&file.display().to_string()),
        Style::stdout().success("valid"),
        counted(signers.len(), "signer", "signers"),
        printable(&listen)
    );
    for signer in signers {
        let mark = if signer.id == current { ", current" } else { "" };
        out.push_str(&format!(
            "  {}: {}{mark}, signs {}\n",
            printable(&signer.id),
            format_key(&signer.key),
            signer.uses()
        ));
    }
    Output::ok(out)
}
