-- Version 4: documents, the feed of each stack, and by what token a host hears its feed.

-- Documents that were taken: in feeds, or grants that wait for approvals.
CREATE TABLE documents (
    id       BLOB PRIMARY KEY,                       -- SHA-256 of its line
    type     TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('published', 'pending')),
    stack    TEXT,                                   -- of a grant or lockdown; '*' for every one
    person   TEXT,                                   -- of a grant: whom it is for
    about    BLOB,                                   -- of a revoke: the grant; of a lift: the lockdown
    received INTEGER NOT NULL,                       -- when it was published, or came
    matters  INTEGER,                                -- until when it has to be known, or can be accepted; NULL for ever
    facts    TEXT NOT NULL,                          -- a JSON object: approvals and signers as they were judged
    envelope TEXT NOT NULL                           -- with the signatures that count
) STRICT;
CREATE INDEX documents_about ON documents (about) WHERE about IS NOT NULL;
CREATE INDEX documents_pending ON documents (person) WHERE state = 'pending';

-- The feed of each stack, and under '*' what holds in every one, for stacks that are heard of later.
CREATE TABLE feeds (
    stack        TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    version      INTEGER NOT NULL,                   -- moves with every change
    count        INTEGER NOT NULL,                   -- of its documents
    head         BLOB NOT NULL,                      -- of the chain over their ids
    state        TEXT NOT NULL,                      -- what its judge remembers, as JSON
    signed       BLOB,                               -- the last roster that the threshold signed
    automatic    BLOB                                -- the one in force, where an automatic key signed it
) STRICT;
CREATE TABLE feed (
    stack    TEXT NOT NULL REFERENCES feeds,
    position INTEGER NOT NULL,                       -- from 1
    document BLOB NOT NULL REFERENCES documents,
    PRIMARY KEY (stack, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX feed_document ON feed (document);

-- SHA-256 of the token by which a host hears its feed, as its newest daemon.started says; NULL where that says none.
ALTER TABLE ledgers ADD COLUMN feed_token BLOB;
CREATE INDEX ledgers_feed_token ON ledgers (feed_token) WHERE feed_token IS NOT NULL;

-- What became of each document on each host.
CREATE TABLE outcomes (
    document BLOB NOT NULL,
    ledger   INTEGER NOT NULL REFERENCES ledgers,
    accepted INTEGER NOT NULL,                       -- 1, or 0 where it was refused
    code     TEXT,                                   -- why it was refused, in the judge's word
    why      TEXT,                                   -- and sentence
    at       INTEGER NOT NULL,                       -- by the host's clock
    version  INTEGER NOT NULL,                       -- grows with each outcome of any document
    PRIMARY KEY (document, ledger)
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, last) VALUES ('outcomes', 0);

-- How each host stands by what it last said. It begins with what is said after this version came.
CREATE TABLE host_states (
    ledger  INTEGER PRIMARY KEY REFERENCES ledgers,
    version TEXT,                                    -- of lockdownd
    mode    TEXT,
    sweep   TEXT NOT NULL                            -- a JSON object: roster, feed and open ways in, by the newest sweep
) STRICT;
CREATE TABLE live_grants (
    ledger    INTEGER NOT NULL REFERENCES ledgers,
    grant_id  TEXT NOT NULL,
    person    TEXT,
    account   TEXT,
    expires   INTEGER,
    document  TEXT,
    approvers TEXT NOT NULL,                         -- a JSON array of names
    why       TEXT,
    PRIMARY KEY (ledger, grant_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE live_sessions (
    ledger  INTEGER NOT NULL REFERENCES ledgers,
    session TEXT NOT NULL,
    person  TEXT,
    account TEXT,
    source  TEXT,                                    -- an address
    opened  INTEGER NOT NULL,
    PRIMARY KEY (ledger, session)
) STRICT, WITHOUT ROWID;

-- People whom the roster names, and who may read for a while.
CREATE TABLE reading (
    hash        BLOB PRIMARY KEY,                    -- SHA-256 of the token
    person      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,                       -- of the key that signed for it
    nonce       TEXT NOT NULL UNIQUE,                -- what it answered, which nothing else answers
    expires     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
