-- Version 1 of the database. Moments are microseconds since 1970, UTC. A migration never edits this file: it adds the next.

-- Words that stand in many rows: artifact types and stacks.
CREATE TABLE words (
    id   INTEGER PRIMARY KEY,
    word TEXT NOT NULL UNIQUE
) STRICT;

-- Every chain there is: a host's own ledger, one that this server keeps for a client or a person, and the server's own.
CREATE TABLE ledgers (
    id         INTEGER PRIMARY KEY,
    ledger     TEXT NOT NULL UNIQUE,                 -- 32 hex digits
    kind       TEXT NOT NULL CHECK (kind IN ('host', 'client', 'person', 'server')),
    name       TEXT NOT NULL,                        -- of the host, client, person or server
    stack      TEXT NOT NULL,                        -- of its newest record; '' where there is none
    state      TEXT NOT NULL CHECK (state IN ('enrolled', 'pending')),
    created    INTEGER NOT NULL,                     -- when it was enrolled or began
    approved   INTEGER,                              -- when an admin approved it, if one had to
    head_seq   INTEGER NOT NULL,                     -- 0 before the first record
    head_hash  BLOB NOT NULL,                        -- SHA-256 of the last line
    head_received INTEGER NOT NULL,                  -- when that was stored: stands in its receipt
    last_type  TEXT NOT NULL,                        -- type of the last record
    last_time  INTEGER NOT NULL,                     -- its own time
    next_by    INTEGER,                              -- the newest sweep.attested's promise
    records    INTEGER NOT NULL DEFAULT 0,           -- how many are stored
    token_stack TEXT                                 -- the stack of the token that enrolled it; NULL where none did
) STRICT;
CREATE INDEX ledgers_name ON ledgers (kind, name);

-- Which key signs a ledger, from which record on.
CREATE TABLE keys (
    ledger     INTEGER NOT NULL REFERENCES ledgers,
    first_seq  INTEGER NOT NULL,
    public_key TEXT NOT NULL,                        -- a line of OpenSSH's format, without comment
    PRIMARY KEY (ledger, first_seq)
) STRICT, WITHOUT ROWID;

-- Every stored artifact, in the order in which it was stored: `id` never goes back.
CREATE TABLE artifacts (
    id          INTEGER PRIMARY KEY,
    ledger      INTEGER NOT NULL REFERENCES ledgers,
    seq         INTEGER NOT NULL,
    type        INTEGER NOT NULL REFERENCES words,
    stack       INTEGER NOT NULL REFERENCES words,   -- the empty word where there is none
    time        INTEGER NOT NULL,                    -- as the record says
    received    INTEGER NOT NULL,
    person      TEXT,
    account     TEXT,
    fingerprint TEXT,
    flags       INTEGER NOT NULL,                    -- 1 clock far off, 2 type unknown to this server
    bytes       BLOB NOT NULL,                       -- a host's record: its line without the newline; else `data` as posted
    client_id   TEXT,                                -- the event's id, where the server keeps the chain
    entry       BLOB                                 -- likewise: the chain's line over this artifact, without the newline
) STRICT;
CREATE UNIQUE INDEX artifacts_ledger ON artifacts (ledger, seq);
CREATE INDEX artifacts_type ON artifacts (type, time);
CREATE INDEX artifacts_ledger_time ON artifacts (ledger, time);
CREATE INDEX artifacts_person ON artifacts (person, time) WHERE person IS NOT NULL;
CREATE INDEX artifacts_account ON artifacts (account, time) WHERE account IS NOT NULL;
CREATE UNIQUE INDEX artifacts_client_id ON artifacts (ledger, client_id) WHERE client_id IS NOT NULL;

-- How many artifacts of a type each chain holds for each day of their own time: counting millions would take too long.
CREATE TABLE tallies (
    type     INTEGER NOT NULL REFERENCES words,
    day      INTEGER NOT NULL,                       -- days since 1970, UTC
    ledger   INTEGER NOT NULL REFERENCES ledgers,
    count    INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    PRIMARY KEY (type, day, ledger)
) STRICT, WITHOUT ROWID;

-- Which window each stored review is of.
CREATE TABLE reviews (
    artifact    INTEGER PRIMARY KEY REFERENCES artifacts,
    person      TEXT NOT NULL,
    window_from INTEGER NOT NULL,
    window_to   INTEGER NOT NULL,
    signed      INTEGER NOT NULL,                    -- when, as the person says
    stack       TEXT                                 -- the one it is about; NULL for all
) STRICT;

-- What was answered: each row can be sealed again to the very same receipt, as ed25519 is deterministic.
CREATE TABLE receipts (
    ledger   INTEGER NOT NULL REFERENCES ledgers,
    seq      INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    received INTEGER NOT NULL,
    PRIMARY KEY (ledger, seq)
) STRICT, WITHOUT ROWID;

-- Records that the host pruned before this server had them, as its own ledger.pruned says.
CREATE TABLE gaps (
    ledger    INTEGER NOT NULL REFERENCES ledgers,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    last_hash BLOB NOT NULL,
    received  INTEGER NOT NULL,
    pruned    BLOB NOT NULL,                         -- the ledger.pruned that accounts for it
    PRIMARY KEY (ledger, first)
) STRICT, WITHOUT ROWID;

-- Authentic records that contradict what is stored.
CREATE TABLE forks (
    ledger   INTEGER NOT NULL REFERENCES ledgers,
    seq      INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    received INTEGER NOT NULL,
    bytes    BLOB NOT NULL,
    PRIMARY KEY (ledger, seq, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE incidents (
    id          INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL,
    subject     TEXT NOT NULL,                       -- what it is about, once per kind while it is open
    host        TEXT,
    ledger      TEXT,
    first_seen  INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    ended       INTEGER,                             -- when it was over, where that can be seen
    detail      TEXT NOT NULL                        -- a JSON object: the newest occurrence
) STRICT;
CREATE UNIQUE INDEX incidents_open ON incidents (kind, subject) WHERE ended IS NULL;

CREATE TABLE tokens (
    id       TEXT PRIMARY KEY,                       -- 16 hex digits; no secret
    hash     BLOB NOT NULL UNIQUE,                   -- SHA-256 of the token
    role     TEXT NOT NULL CHECK (role IN ('enrol', 'client', 'auditor', 'admin')),
    name     TEXT NOT NULL,                          -- a client's name; else what it is for
    stack    TEXT,                                   -- enrol: for this stack's instances
    types    TEXT,                                   -- client: a JSON array of the types it may post; NULL for any
    uses     INTEGER,                                -- enrol: how many are left; NULL for any number
    created  INTEGER NOT NULL,
    expires  INTEGER,
    revoked  INTEGER
) STRICT;

-- People whose signed reviews are taken.
CREATE TABLE reviewers (
    person     TEXT NOT NULL,
    public_key TEXT NOT NULL,
    added      INTEGER NOT NULL,
    revoked    INTEGER,
    PRIMARY KEY (person, public_key)
) STRICT, WITHOUT ROWID;

-- For reading: one row per artifact, in words. `host` is the name of the host, client, person or server.
CREATE VIEW records AS
SELECT a.id, l.ledger, a.seq, l.kind, l.name AS host, s.word AS stack, t.word AS type, a.time, a.received,
       a.person, a.account, a.fingerprint, a.flags, l.state = 'pending' AS pending, a.bytes, a.client_id, a.entry
FROM artifacts a
JOIN ledgers l ON l.id = a.ledger
JOIN words t ON t.id = a.type
JOIN words s ON s.id = a.stack;
