//! Header changes.

use postern_gate::{AppendAction, Change, Effects};
use proxy_wasm::hostcalls;
use proxy_wasm::types::MapType;

/// Changes the request that goes on to the upstream.
pub(crate) fn apply(effects: &Effects) {
    for name in &effects.strip {
        let _ = hostcalls::remove_map_value(MapType::HttpRequestHeaders, name);
    }
    if let Some(policy) = &effects.policy {
        change(MapType::HttpRequestHeaders, &policy.request);
        for name in &policy.remove {
            let _ = hostcalls::remove_map_value(MapType::HttpRequestHeaders, name);
        }
    }
    for (name, value) in effects.identity.iter().flat_map(|identity| identity.headers()) {
        // No value can exist under these names: the client's were stripped above, and a policy that sets one of them
        // is refused.
        let _ = hostcalls::add_map_value_bytes(MapType::HttpRequestHeaders, name, value.as_bytes());
    }
}

/// Sets and adds headers, in order.
pub(crate) fn change(map: MapType, changes: &[Change]) {
    for Change { name, value, action } in changes {
        let exists = || hostcalls::get_map_value_bytes(map, name).ok().flatten().is_some();
        let skipped = match action {
            AppendAction::Append | AppendAction::Overwrite => false,
            AppendAction::AddIfAbsent => exists(),
            AppendAction::OverwriteIfExists => !exists(),
        };
        if skipped {
            continue;
        }
        if matches!(action, AppendAction::Overwrite | AppendAction::OverwriteIfExists) {
            // Removed and added: replacing could leave the second of two values.
            let _ = hostcalls::remove_map_value(map, name);
        }
        let _ = hostcalls::add_map_value_bytes(map, name, value);
    }
}
