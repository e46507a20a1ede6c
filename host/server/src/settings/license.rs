//! Licence settings, only from the environment: `LICENSE_*`.

use std::path::Path;

use postern_config::ConfigErrors;
use postern_serve::{MAX_FILE_SIZE, Variables};

use crate::license::Settings;

/// Reads `LICENSE_REQUIRED`, `LICENSE_KEY`, `LICENSE_PUBLIC_KEY`, `LICENSE_PUBLIC_KEY_PATH` and `LICENSE_SECRET`.
pub(super) fn license(variables: &Variables<'_>, errors: &mut ConfigErrors) -> Option<Settings> {
    let required = variables.switch("LICENSE_REQUIRED", false, errors);
    let license = variables.secret("LICENSE_KEY");
    if !required && license.is_none() {
        return None;
    }
    let from_file = variables.value("LICENSE_PUBLIC_KEY_PATH").and_then(|path| {
        let read = postern_files::read_to_string(Path::new(&path), MAX_FILE_SIZE);
        read.map_err(|error| {
            errors.add(
                "",
                format!(
                    "LICENSE_PUBLIC_KEY_PATH in the environment names a file that cannot be read: {error}"
                ),
            );
        })
        .ok()
    });
    let public_key = variables.value("LICENSE_PUBLIC_KEY").or(from_file);
    let secret = variables.secret("LICENSE_SECRET");
    match Settings::new(required, license, public_key.as_deref(), secret) {
        Ok(settings) => Some(settings),
        Err(problem) => {
            errors.add("", format!("the environment: {problem}"));
            None
        }
    }
}
