//! Formats events, one per line.

use postern_audit::read::StoredEvent;
use postern_audit::{Hash, Record};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Format;
use crate::style::Style;
use crate::text::printable;

#[derive(Serialize)]
struct Document<'a> {
    hash: Hash,
    /// Whether the payload matches the hash.
    sound: bool,
    record: &'a RawValue,
}

/// Formats an event as one line.
pub(super) fn line(found: &StoredEvent, format: Format, style: Style) -> String {
    match format {
        Format::Json => document(found),
        Format::Text => text(found, style),
    }
}

fn document(found: &StoredEvent) -> String {
    let record = serde_json::from_str(&found.entry.payload).unwrap_or(RawValue::NULL);
    let document = Document {
        hash: found.entry.hash,
        sound: found.hash_matches,
        record,
    };
    serde_json::to_string(&document).unwrap_or_default() + "\n"
}

fn text(found: &StoredEvent, style: Style) -> String {
    let seq = found.entry.seq;
    let changed = "its payload does not match its hash; run postern audit verify";
    let Ok(record) = serde_json::from_str::<Record>(&found.entry.payload) else {
        return format!("{seq:>8}  {}\n", style.error(changed));
    };
    let event = &record.event;
    let mut words = vec![
        format!("{seq:>8}"),
        record.recorded.to_string(),
        event.kind.name().to_owned(),
    ];
    words.extend(event.decision.map(|decision| match decision {
        postern_audit::Decision::Allowed => style.success(decision.name()),
        postern_audit::Decision::Denied => style.error(decision.name()),
        postern_audit::Decision::Failed => style.warning(decision.name()),
    }));
    let named = [
        ("", &event.reason),
        ("rule=", &event.rule),
        ("subject=", &event.subject),
        ("tenant=", &event.tenant),
        ("policy=", &event.policy),
        ("signer=", &event.signer_id),
        ("", &event.method),
        ("", &event.path),
    ];
    let named = named
        .iter()
        .filter_map(|(name, text)| Some((name, text.as_ref()?)));
    words.extend(named.map(|(name, text)| format!("{name}{}", one_line(text))));
    words.extend(event.status.map(|status| status.to_string()));
    words.extend(event.latency_us.map(|micros| format!("{micros}us")));
    words.extend(
        event
            .request_id
            .as_ref()
            .map(|id| format!("request={}", one_line(id))),
    );
    for (name, value) in &event.detail {
        words.push(format!("{}={}", one_line(name), one_line(&value.to_string())));
    }
    if !found.hash_matches {
        words.push(style.error(changed));
    }
    words.join(" ") + "\n"
}

/// Escapes control characters, line feeds included.
fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}
