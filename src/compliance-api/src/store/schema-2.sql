-- Version 2: summaries by stack and by whether the clock was right, each signed review once, the keys that the server has
-- signed with, and the hash of every line.

-- How often a key was bound to a chain: what was judged by an earlier state of the keys is judged again.
ALTER TABLE ledgers ADD COLUMN key_epoch INTEGER NOT NULL DEFAULT 0;
UPDATE ledgers SET key_epoch = (SELECT count(*) FROM keys k WHERE k.ledger = ledgers.id);
-- No promise reaches further than 25 hours beyond what was heard last, the default of limits.next_by_ahead.
UPDATE ledgers SET next_by = min(next_by, head_received + 90000000000) WHERE next_by IS NOT NULL;

-- SHA-256 of the chain's line; NULL for what was stored before version 2, whose line says it.
ALTER TABLE artifacts ADD COLUMN hash BLOB;

DROP TABLE tallies;
CREATE TABLE tallies (
    type      INTEGER NOT NULL REFERENCES words,
    day       INTEGER NOT NULL,                      -- days since 1970, UTC
    ledger    INTEGER NOT NULL REFERENCES ledgers,
    stack     INTEGER NOT NULL REFERENCES words,     -- that the artifacts name
    clock_off INTEGER NOT NULL,                      -- 1 where their time was far from this server's clock
    count     INTEGER NOT NULL,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    PRIMARY KEY (type, day, ledger, stack, clock_off)
) STRICT, WITHOUT ROWID;
INSERT INTO tallies (type, day, ledger, stack, clock_off, count, first, last)
SELECT type, time / 86400000000 - (time % 86400000000 < 0), ledger, stack, flags & 1, count(*), min(time), max(time)
FROM artifacts GROUP BY 1, 2, 3, 4, 5;

-- SHA-256 of what was signed: the same is stored once, whatever id it is sent under.
ALTER TABLE reviews ADD COLUMN message BLOB;
CREATE UNIQUE INDEX reviews_message ON reviews (message);

-- The keys that this server signs with: receipts and its own ledger. The last is in force.
CREATE TABLE server_keys (
    id         INTEGER PRIMARY KEY,
    public_key TEXT NOT NULL UNIQUE,                 -- a line of OpenSSH's format, without comment
    since      INTEGER NOT NULL
) STRICT;
INSERT INTO server_keys (id, public_key, since)
SELECT 1, k.public_key, l.created FROM keys k JOIN ledgers l ON l.id = k.ledger
WHERE l.kind = 'server' AND k.first_seq = 1 ORDER BY l.id LIMIT 1;

-- Which of them signed a receipt, and, once that key has been replaced, the receipt as it was answered.
ALTER TABLE receipts ADD COLUMN server_key INTEGER NOT NULL DEFAULT 1;
ALTER TABLE receipts ADD COLUMN sealed TEXT;

-- The last id of an artifact: ids are given in the order of commits, on any engine.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, last) SELECT 'artifacts', coalesce(max(id), 0) FROM artifacts;
