//! Output for invalid settings, and of `--check`.

use std::path::Path;

use postern_command::output::Output;
use postern_command::style::Style;
use postern_command::text::{counted, printable};
use postern_kms_proxy::{Settings, Signer};
use postern_serve::SettingsError;
use postern_signers::format_key;

/// Reports invalid settings.
pub(super) fn invalid(file: &Path, error: &SettingsError) -> Output {
    Output::invalid(&file.display().to_string(), &error.problems())
}

/// Reports the signers of valid settings.
pub(super) fn valid(file: &Path, settings: &Settings, signers: &[Signer], current: &str) -> Output {
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
