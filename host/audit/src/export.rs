//! A log as a file: JSON, one document a line, which anyone can follow with a JSON parser and SHA-256.
//!
//! ```text
//! {"header":{"format":"postern-audit/1","created":"…","origin":"…","behind":{…},"manifests":true}}
//! {"manifest_signature":{"id":"…","manifest_hash":"…","signature_b64":"…","signer_id":"…","signed_at":"…"}}
//! {"event":{"seq":1,"hash":"…","payload":"{…}"}}
//! {"checkpoint":{"size":1,"note":"postern.example/audit\n1\n…"}}
//! {"end":{"size":1,"hash":"…","lines":4,"sha256":"…"}}
//! ```
//!
//! `payload` is the text that was hashed, character by character. A checkpoint stands behind the last event that it
//! covers. Signatures of manifests stand before all events, and only in the export of a whole log. `behind` is what
//! the first event follows, its place, hash and time: in the export of a part, its `prev_hash` is held against that
//! alone. The last line has the SHA-256 of all lines before it, newlines included, so that a file that was cut short
//! or damaged is noticed too; that it is the log that was written is for the chain and the checkpoints to show.
//!
//! An auditor without this program rehashes an export so:
//!
//! ```text
//! jq -r 'select(.event).event | .hash + " " + .payload' log.jsonl | while read -r hash payload; do
//!   [ "$(printf %s "$payload" | sha256sum)" = "$hash  -" ] || echo "not what was hashed: $payload"; done
//! ```
//!
//! and follows its links so:
//!
//! ```text
//! jq -rn '[inputs | select(.event).event] | range(1; length) as $n | select((.[$n].payload | fromjson.prev_hash)
//!   != .[$n - 1].hash) | "event \(.[$n].seq) does not follow"' log.jsonl
//! ```

mod line;
mod replay;
mod write;

pub use line::{Behind, Header};
pub use replay::{ReplayError, replay};
pub use write::{ExportError, Range, export};
