-- The bytes that are hashed stand in `payload`; the columns made from it are there to ask by, and prove nothing.
CREATE TABLE audit_events (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    payload TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    prev_hash TEXT GENERATED ALWAYS AS (payload ->> 'prev_hash') VIRTUAL,
    recorded TEXT GENERATED ALWAYS AS (payload ->> 'recorded') VIRTUAL,
    kind TEXT GENERATED ALWAYS AS (payload ->> 'kind') VIRTUAL,
    subject TEXT GENERATED ALWAYS AS (payload ->> 'subject') VIRTUAL,
    rule TEXT GENERATED ALWAYS AS (payload ->> 'rule') VIRTUAL,
    decision TEXT GENERATED ALWAYS AS (payload ->> 'decision') VIRTUAL
) STRICT;

-- Checkpoints: C2SP signed notes, each over the first `size` events.
CREATE TABLE audit_checkpoints (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE manifest_signatures (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    manifest_hash BLOB NOT NULL CHECK (length(manifest_hash) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    signer_id TEXT NOT NULL,
    signed_at TEXT NOT NULL,
    subject TEXT,
    request_id TEXT
) STRICT;
CREATE INDEX manifest_signatures_by_hash ON manifest_signatures (manifest_hash);
