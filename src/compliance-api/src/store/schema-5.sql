-- Version 5: tokens that read metrics, and tokens that read about one stack or one window alone.

CREATE TABLE tokens_5 (
    id         TEXT PRIMARY KEY,                     -- 16 hex digits; no secret
    hash       BLOB NOT NULL UNIQUE,                 -- SHA-256 of the token
    role       TEXT NOT NULL CHECK (role IN ('enrol', 'client', 'auditor', 'admin', 'monitor')),
    name       TEXT NOT NULL,                        -- a client's name; else what it is for
    stack      TEXT,                                 -- enrol: for this stack's instances; auditor: reads about it alone
    types      TEXT,                                 -- client: a JSON array of the types it may post; NULL for any
    uses       INTEGER,                              -- enrol: how many are left; NULL for any number
    created    INTEGER NOT NULL,
    expires    INTEGER,
    revoked    INTEGER,
    used       INTEGER,                              -- when it last was, to the hour
    reads_from INTEGER,                              -- auditor: reads what is not from before this
    reads_to   INTEGER                               -- auditor: reads what is from before this
) STRICT;
INSERT INTO tokens_5 (id, hash, role, name, stack, types, uses, created, expires, revoked, used)
SELECT id, hash, role, name, stack, types, uses, created, expires, revoked, used FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_5 RENAME TO tokens;
