-- Version 1 of the database on PostgreSQL; the same tables as the newest version for SQLite. Moments are microseconds since 1970,
-- UTC. A migration never edits this file: it adds the next. References are not declared: the store alone writes them, from rows
-- that it has just read or made. Names are in the order of their bytes, as on SQLite.

-- Words that stand in many rows: artifact types and stacks.
CREATE TABLE words (
    id   BIGINT PRIMARY KEY,
    word TEXT COLLATE "C" NOT NULL UNIQUE
);

-- Every chain there is: a host's own ledger, one that this server keeps for a client or a person, and the server's own.
CREATE TABLE ledgers (
    id         BIGINT PRIMARY KEY,
    ledger     TEXT COLLATE "C" NOT NULL UNIQUE,  -- 32 hex digits
    kind       TEXT COLLATE "C" NOT NULL CHECK (kind IN ('host', 'client', 'person', 'server')),
    name       TEXT COLLATE "C" NOT NULL,         -- of the host, client, person or server
    stack      TEXT COLLATE "C" NOT NULL,         -- of its newest record; '' where there is none
    state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('enrolled', 'pending')),
    created    BIGINT NOT NULL,                   -- when it was enrolled or began
    approved   BIGINT,                            -- when an admin approved it, if one had to
    head_seq   BIGINT NOT NULL,                   -- 0 before the first record
    head_hash  BYTEA NOT NULL,                    -- SHA-256 of the last line
    head_received BIGINT NOT NULL,                -- when that was stored: stands in its receipt
    last_type  TEXT COLLATE "C" NOT NULL,         -- type of the last record
    last_time  BIGINT NOT NULL,                   -- its own time
    next_by    BIGINT,                            -- the newest sweep.attested's promise
    records    BIGINT NOT NULL DEFAULT 0,         -- how many are stored
    token_stack TEXT COLLATE "C",                 -- the stack of the token that enrolled it; NULL where none did
    key_epoch  BIGINT NOT NULL DEFAULT 0,         -- how often a key was bound to it
    feed_token BYTEA                              -- SHA-256 of the token by which its host hears its feed
);
CREATE INDEX ledgers_name ON ledgers (kind, name);
CREATE INDEX ledgers_feed_token ON ledgers (feed_token) WHERE feed_token IS NOT NULL;

-- Which key signs a ledger, from which record on.
CREATE TABLE keys (
    ledger     BIGINT NOT NULL,
    first_seq  BIGINT NOT NULL,
    public_key TEXT COLLATE "C" NOT NULL,  -- a line of OpenSSH's format, without comment
    PRIMARY KEY (ledger, first_seq)
);

-- Every stored artifact, in the order in which it was stored: `id` never goes back.
CREATE TABLE artifacts (
    id          BIGINT PRIMARY KEY,
    ledger      BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    type        BIGINT NOT NULL,
    stack       BIGINT NOT NULL,   -- the empty word where there is none
    time        BIGINT NOT NULL,   -- as the record says
    received    BIGINT NOT NULL,
    person      TEXT COLLATE "C",
    account     TEXT COLLATE "C",
    fingerprint TEXT COLLATE "C",
    flags       BIGINT NOT NULL,   -- 1 clock far off, 2 type unknown to this server
    bytes       BYTEA NOT NULL,    -- a host's record: its line without the newline; else `data` as posted
    client_id   TEXT COLLATE "C",  -- the event's id, where the server keeps the chain
    entry       BYTEA,             -- likewise: the chain's line over this artifact, without the newline
    hash        BYTEA              -- SHA-256 of the chain's line; NULL for what came from a server of version 1
);
CREATE UNIQUE INDEX artifacts_ledger ON artifacts (ledger, seq);
CREATE INDEX artifacts_type ON artifacts (type, time, id);
CREATE INDEX artifacts_ledger_time ON artifacts (ledger, time, id);
CREATE INDEX artifacts_person ON artifacts (person, time, id) WHERE person IS NOT NULL;
CREATE INDEX artifacts_account ON artifacts (account, time, id) WHERE account IS NOT NULL;
CREATE UNIQUE INDEX artifacts_client_id ON artifacts (ledger, client_id) WHERE client_id IS NOT NULL;

-- How many artifacts of a type each chain holds for each day of their own time: counting millions would take too long.
CREATE TABLE tallies (
    type      BIGINT NOT NULL,
    day       BIGINT NOT NULL,  -- days since 1970, UTC
    ledger    BIGINT NOT NULL,
    stack     BIGINT NOT NULL,  -- that the artifacts name
    clock_off BIGINT NOT NULL,  -- 1 where their time was far from this server's clock
    count     BIGINT NOT NULL,
    first     BIGINT NOT NULL,
    last      BIGINT NOT NULL,
    PRIMARY KEY (type, day, ledger, stack, clock_off)
);

-- Which window each stored review is of.
CREATE TABLE reviews (
    artifact    BIGINT PRIMARY KEY,
    person      TEXT COLLATE "C" NOT NULL,
    window_from BIGINT NOT NULL,
    window_to   BIGINT NOT NULL,
    signed      BIGINT NOT NULL,   -- when, as the person says
    stack       TEXT COLLATE "C",  -- the one it is about; NULL for all
    message     BYTEA UNIQUE       -- SHA-256 of what was signed
);

-- What was answered: each row can be sealed again to the very same receipt, as ed25519 is deterministic.
CREATE TABLE receipts (
    ledger   BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    hash     BYTEA NOT NULL,
    received BIGINT NOT NULL,
    server_key BIGINT NOT NULL DEFAULT 1,  -- which of them signed it
    sealed   TEXT COLLATE "C",             -- as it was answered, once that key has been replaced
    PRIMARY KEY (ledger, seq)
);

-- Records that the host pruned before this server had them, as its own ledger.pruned says.
CREATE TABLE gaps (
    ledger    BIGINT NOT NULL,
    first     BIGINT NOT NULL,
    last      BIGINT NOT NULL,
    last_hash BYTEA NOT NULL,
    received  BIGINT NOT NULL,
    pruned    BYTEA NOT NULL,  -- the ledger.pruned that accounts for it
    PRIMARY KEY (ledger, first)
);

-- Authentic records that contradict what is stored.
CREATE TABLE forks (
    ledger   BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    hash     BYTEA NOT NULL,
    received BIGINT NOT NULL,
    bytes    BYTEA NOT NULL,
    PRIMARY KEY (ledger, seq, hash)
);

CREATE TABLE incidents (
    id          BIGINT PRIMARY KEY,
    kind        TEXT COLLATE "C" NOT NULL,
    subject     TEXT COLLATE "C" NOT NULL,  -- what it is about, once per kind while it is open
    host        TEXT COLLATE "C",
    ledger      TEXT COLLATE "C",
    first_seen  BIGINT NOT NULL,
    last_seen   BIGINT NOT NULL,
    count       BIGINT NOT NULL,
    ended       BIGINT,                     -- when it was over, where that can be seen
    detail      TEXT COLLATE "C" NOT NULL   -- a JSON object: the newest occurrence
);
CREATE UNIQUE INDEX incidents_open ON incidents (kind, subject) WHERE ended IS NULL;

CREATE TABLE tokens (
    id         TEXT COLLATE "C" PRIMARY KEY,  -- 16 hex digits; no secret
    hash       BYTEA NOT NULL UNIQUE,         -- SHA-256 of the token
    role       TEXT COLLATE "C" NOT NULL CHECK (role IN ('enrol', 'client', 'auditor', 'admin', 'monitor')),
    name       TEXT COLLATE "C" NOT NULL,     -- a client's name; else what it is for
    stack      TEXT COLLATE "C",              -- enrol: for this stack's instances; auditor: reads about it alone
    types      TEXT COLLATE "C",              -- client: a JSON array of the types it may post; NULL for any
    uses       BIGINT,                        -- enrol: how many are left; NULL for any number
    created    BIGINT NOT NULL,
    expires    BIGINT,
    revoked    BIGINT,
    used       BIGINT,                        -- when it last was, to the hour
    reads_from BIGINT,                        -- auditor: reads what is not from before this
    reads_to   BIGINT                         -- auditor: reads what is from before this
);

-- People whose signed reviews are taken.
CREATE TABLE reviewers (
    person     TEXT COLLATE "C" NOT NULL,
    public_key TEXT COLLATE "C" NOT NULL,
    added      BIGINT NOT NULL,
    revoked    BIGINT,
    PRIMARY KEY (person, public_key)
);

-- For reading: one row per artifact, in words. `host` is the name of the host, client, person or server.
CREATE VIEW records AS
SELECT a.id, l.ledger, a.seq, l.kind, l.name AS host, s.word AS stack, t.word AS type, a.time, a.received,
       a.person, a.account, a.fingerprint, a.flags, l.state = 'pending' AS pending, a.bytes, a.client_id, a.entry
FROM artifacts a
JOIN ledgers l ON l.id = a.ledger
JOIN words t ON t.id = a.type
JOIN words s ON s.id = a.stack;

-- The keys that this server signs with: receipts and its own ledger. The last is in force.
CREATE TABLE server_keys (
    id         BIGINT PRIMARY KEY,
    public_key TEXT COLLATE "C" NOT NULL UNIQUE,  -- a line of OpenSSH's format, without comment
    since      BIGINT NOT NULL
);

-- The last id of an artifact: ids are given in the order of commits, on any engine.
CREATE TABLE counters (
    name TEXT COLLATE "C" PRIMARY KEY,
    last BIGINT NOT NULL
);

-- Documents that were taken: in feeds, or grants that wait for approvals.
CREATE TABLE documents (
    id       BYTEA PRIMARY KEY,          -- SHA-256 of its line
    type     TEXT COLLATE "C" NOT NULL,
    state    TEXT COLLATE "C" NOT NULL CHECK (state IN ('published', 'pending')),
    stack    TEXT COLLATE "C",           -- of a grant or lockdown; '*' for every one
    person   TEXT COLLATE "C",           -- of a grant: whom it is for
    about    BYTEA,                      -- of a revoke: the grant; of a lift: the lockdown
    received BIGINT NOT NULL,            -- when it was published, or came
    matters  BIGINT,                     -- until when it has to be known, or can be accepted; NULL for ever
    facts    TEXT COLLATE "C" NOT NULL,  -- a JSON object: approvals and signers as they were judged
    envelope TEXT COLLATE "C" NOT NULL   -- with the signatures that count
);
CREATE INDEX documents_about ON documents (about) WHERE about IS NOT NULL;
CREATE INDEX documents_pending ON documents (person) WHERE state = 'pending';

-- The feed of each stack, and under '*' what holds in every one, for stacks that are heard of later.
CREATE TABLE feeds (
    stack        TEXT COLLATE "C" PRIMARY KEY,
    organization TEXT COLLATE "C" NOT NULL,
    version      BIGINT NOT NULL,            -- moves with every change
    count        BIGINT NOT NULL,            -- of its documents
    head         BYTEA NOT NULL,             -- of the chain over their ids
    state        TEXT COLLATE "C" NOT NULL,  -- what its judge remembers, as JSON
    signed       BYTEA,                      -- the last roster that the threshold signed
    automatic    BYTEA                       -- the one in force, where an automatic key signed it
);
CREATE TABLE feed (
    stack    TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,  -- from 1
    document BYTEA NOT NULL,
    PRIMARY KEY (stack, position)
);
CREATE INDEX feed_document ON feed (document);

-- What became of each document on each host.
CREATE TABLE outcomes (
    document BYTEA NOT NULL,
    ledger   BIGINT NOT NULL,
    accepted BIGINT NOT NULL,   -- 1, or 0 where it was refused
    code     TEXT COLLATE "C",  -- why it was refused, in the judge's word
    why      TEXT COLLATE "C",  -- and sentence
    at       BIGINT NOT NULL,   -- by the host's clock
    version  BIGINT NOT NULL,   -- grows with each outcome of any document
    PRIMARY KEY (document, ledger)
);
INSERT INTO counters (name, last) VALUES ('artifacts', 0), ('outcomes', 0);

-- How each host stands by what it last said. It begins with what is said after this version came.
CREATE TABLE host_states (
    ledger  BIGINT PRIMARY KEY,
    version TEXT COLLATE "C",          -- of lockdownd
    mode    TEXT COLLATE "C",
    sweep   TEXT COLLATE "C" NOT NULL  -- a JSON object: roster, feed and open ways in, by the newest sweep
);
CREATE TABLE live_grants (
    ledger    BIGINT NOT NULL,
    grant_id  TEXT COLLATE "C" NOT NULL,
    person    TEXT COLLATE "C",
    account   TEXT COLLATE "C",
    expires   BIGINT,
    document  TEXT COLLATE "C",
    approvers TEXT COLLATE "C" NOT NULL,  -- a JSON array of names
    why       TEXT COLLATE "C",
    PRIMARY KEY (ledger, grant_id)
);
CREATE TABLE live_sessions (
    ledger  BIGINT NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    person  TEXT COLLATE "C",
    account TEXT COLLATE "C",
    source  TEXT COLLATE "C",  -- an address
    opened  BIGINT NOT NULL,
    PRIMARY KEY (ledger, session)
);

-- People whom the roster names, and who may read for a while.
CREATE TABLE reading (
    hash        BYTEA PRIMARY KEY,                 -- SHA-256 of the token
    person      TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,         -- of the key that signed for it
    nonce       TEXT COLLATE "C" NOT NULL UNIQUE,  -- what it answered, which nothing else answers
    expires     BIGINT NOT NULL
);

-- What feeders say of each look at their source.
CREATE TABLE runs (
    id       BYTEA PRIMARY KEY,  -- SHA-256 of the document's line
    source   TEXT COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,    -- when it ended, by the feeder's clock
    received BIGINT NOT NULL,
    failed   BIGINT NOT NULL,    -- 1, or 0 where it did all that it should have
    matters  BIGINT NOT NULL,    -- 1 where it held somebody, signed a roster or failed
    envelope TEXT COLLATE "C" NOT NULL
);
CREATE INDEX runs_source ON runs (source, at);
CREATE INDEX runs_matters ON runs (source, matters, at);
CREATE INDEX runs_received ON runs (source, received);

-- Signed checkpoints over the heads of all chains. The leaves of each are not kept: they are where every chain stood when the last
-- artifact stored was `newest`.
CREATE TABLE checkpoints (
    number BIGINT PRIMARY KEY,             -- from 1, without gaps
    newest BIGINT NOT NULL,                -- the row of the artifact that was stored last
    made   BIGINT NOT NULL,
    note   TEXT COLLATE "C" NOT NULL       -- as it was signed
);
