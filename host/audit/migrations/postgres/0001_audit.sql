-- The bytes that are hashed stand in `payload`; the columns made from it are there to ask by, and prove nothing.
CREATE TABLE audit_events (
    seq BIGINT PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    payload TEXT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    prev_hash TEXT GENERATED ALWAYS AS (payload::jsonb ->> 'prev_hash') STORED,
    recorded TEXT GENERATED ALWAYS AS (payload::jsonb ->> 'recorded') STORED,
    kind TEXT GENERATED ALWAYS AS (payload::jsonb ->> 'kind') STORED,
    subject TEXT GENERATED ALWAYS AS (payload::jsonb ->> 'subject') STORED,
    rule TEXT GENERATED ALWAYS AS (payload::jsonb ->> 'rule') STORED,
    decision TEXT GENERATED ALWAYS AS (payload::jsonb ->> 'decision') STORED
);

-- Checkpoints: C2SP signed notes, each over the first `size` events.
CREATE TABLE audit_checkpoints (
    size BIGINT PRIMARY KEY,
    note TEXT NOT NULL
);

CREATE TABLE manifest_signatures (
    id UUID PRIMARY KEY,
    manifest_hash BYTEA NOT NULL CHECK (length(manifest_hash) = 32),
    signature BYTEA NOT NULL CHECK (length(signature) = 64),
    signer_id TEXT NOT NULL,
    signed_at TEXT NOT NULL,
    subject TEXT,
    request_id TEXT
);
CREATE INDEX manifest_signatures_by_hash ON manifest_signatures (manifest_hash);
