//! Reloads the policies on demand.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use postern_policy::{Change, Digest, LoadError};
use serde::Serialize;

use super::app_state::AppState;
use postern_serve::json;

#[derive(Serialize)]
struct ReloadReport {
    policies: BTreeMap<String, LoadResult>,
}

/// The result of loading an entry.
#[derive(Serialize)]
struct LoadResult {
    /// `unchanged`, `loaded`, `swapped`, `removed` or `failed`.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl LoadResult {
    fn of(result: &Result<Change, LoadError>) -> Self {
        let (name, from, digest) = match result {
            Ok(Change::Unchanged) => ("unchanged", None, None),
            Ok(Change::Loaded(digest)) => ("loaded", None, Some(*digest)),
            Ok(Change::Swapped { from, to }) => ("swapped", Some(*from), Some(*to)),
            Ok(Change::Removed) => ("removed", None, None),
            Err(_) => ("failed", None, None),
        };
        let error = result.as_ref().err();
        Self {
            result: name,
            from,
            digest,
            kind: error.map(|error| error.kind),
            reason: error.map(ToString::to_string),
        }
    }
}

/// 200 if every entry serves what its files hold, 422 if one does not. If an entry cannot be loaded, its previous
/// module stays in service.
pub(super) async fn reload(State(state): State<AppState>) -> Response {
    let report = state.loader.load("requested").await;
    let failed = report.errors().next().is_some();
    let status = if failed {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    let policies = report
        .entries
        .iter()
        .map(|(name, result)| (name.clone(), LoadResult::of(result)))
        .collect();
    json(status, &ReloadReport { policies })
}
