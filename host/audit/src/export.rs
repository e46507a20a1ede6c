//! Exports of a log: JSON Lines, which can be verified with a JSON parser and SHA-256.
//!
//! ```text
//! {"header":{"format":"postern-audit/1","created":"…","origin":"…","behind":{…},"manifests":true}}
//! {"manifest_signature":{"id":"…","manifest_hash":"…","signature_b64":"…","signer_id":"…","signed_at":"…"}}
//! {"event":{"seq":1,"hash":"…","payload":"{…}"}}
//! {"checkpoint":{"size":1,"note":"postern.example/audit\n1\n…"}}
//! {"end":{"size":1,"hash":"…","lines":4,"sha256":"…"}}
//! ```
//!
//! `payload` is exactly the text that was hashed. A checkpoint follows the last event that it covers. Manifest signatures
//! precede all events, and are only in the export of a whole log. `behind` is the position, hash and time of the event
//! before the first one: in a partial export, the `prev_hash` of the first event is compared with that alone. The last line
//! has the SHA-256 of all lines before it, newlines included, to detect a truncated or damaged file. That the export is the
//! log that was written is shown by the chain and the checkpoints.
//!
//! An auditor without this program verifies the hashes with:
//!
//! ```text
//! jq -r 'select(.event).event | .hash + " " + .payload' log.jsonl | while read -r hash payload; do
//!   [ "$(printf %s "$payload" | sha256sum)" = "$hash  -" ] || echo "not what was hashed: $payload"; done
//! ```
//!
//! and the links with:
//!
//! ```text
//! jq -rn '[inputs | select(.event).event] | range(1; length) as $n | select((.[$n].payload | fromjson.prev_hash)
//!   != .[$n - 1].hash) | "event \(.[$n].seq) does not follow"' log.jsonl
//! ```

mod line;
mod replay;
mod write;

pub use line::{Header, Predecessor};
pub use replay::{ReplayError, replay};
pub use write::{ExportError, Range, export};
