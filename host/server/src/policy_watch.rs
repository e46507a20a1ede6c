//! Loads policies when their files change.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_policy::{Manifest, Settings, Source};
use postern_serve::{FileWatcher, WatchedFiles};

use crate::loader::Loader;

/// A deployment writes several files; policies are loaded once none has changed for this long.
const QUIET_PERIOD: Duration = Duration::from_millis(200);
/// The maximum size of a manifest, in bytes.
const MAX_MANIFEST: u64 = 16 << 20;

/// Watches the files of these settings; `None`, with a warning, if the system does not support it.
pub(crate) async fn start(settings: &Settings) -> Option<FileWatcher> {
    let watcher = FileWatcher::new(QUIET_PERIOD)
        .inspect_err(|error| tracing::warn!(%error, "files are not watched: changes need a reload"))
        .ok()?;
    follow(&watcher, settings.clone()).await;
    Some(watcher)
}

/// Loads after each change, for as long as it is polled.
pub(crate) async fn run(mut watcher: FileWatcher, loader: Arc<Loader>) {
    loop {
        watcher.changed().await;
        loader.load("files changed").await;
        follow(&watcher, loader.settings()).await;
    }
}

/// Watches the current directories of the files.
async fn follow(watcher: &FileWatcher, settings: Settings) {
    let find = move || WatchedFiles::with_links(files(&settings));
    match watcher.watch(find).await {
        Ok(unwatched) => {
            for (directory, error) in unwatched {
                tracing::warn!(directory = %directory.display(), %error, "not watched: changes there need a reload");
            }
        }
        Err(error) => tracing::warn!(%error, "directories not watched: changes may need a reload"),
    }
}

/// The files that policies are loaded from.
fn files(settings: &Settings) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in settings.entries.values() {
        if let Source::File { module, cases, .. } = &entry.source {
            files.insert(settings.directory.join(module));
            files.extend(cases.as_ref().map(|cases| settings.directory.join(cases)));
        }
    }
    if let Some(manifest) = &settings.manifest {
        let manifest = settings.directory.join(manifest);
        let directory = manifest.parent().unwrap_or(&settings.directory).to_owned();
        // Unverified: it only says which files to watch.
        let listed = postern_files::read(&manifest, MAX_MANIFEST)
            .ok()
            .and_then(|text| Manifest::parse(&text).ok());
        for module in listed.iter().flat_map(|manifest| manifest.modules.values()) {
            files.insert(directory.join(&module.file));
            files.extend(module.cases.as_ref().map(|cases| directory.join(&cases.file)));
        }
        files.insert(manifest);
    }
    files
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postern_policy::{EntrySettings, Grants, Limits};

    use super::*;

    #[test]
    fn modules_and_their_cases_are_watched() {
        let entry = EntrySettings {
            source: Source::File {
                module: "current/a.wasm".into(),
                digest: None,
                cases: Some("a.cases.yaml".into()),
            },
            grants: Grants::default(),
            config: serde_json::json!({}),
            limits: Limits::default(),
        };
        let root = Path::new("/etc/postern");
        let settings = Settings {
            directory: root.to_owned(),
            manifest: Some("manifest.json".into()),
            entries: [("a".to_owned(), entry)].into(),
            ..Settings::default()
        };
        let expected = ["a.cases.yaml", "current/a.wasm", "manifest.json"].map(|file| root.join(file));
        assert_eq!(files(&settings), expected.into());
    }
}
