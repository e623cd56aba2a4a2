-- Version 6: what feeders say of each look at their source.

CREATE TABLE runs (
    id       BLOB PRIMARY KEY,                       -- SHA-256 of the document's line
    source   TEXT NOT NULL,
    at       INTEGER NOT NULL,                       -- when it ended, by the feeder's clock
    received INTEGER NOT NULL,
    failed   INTEGER NOT NULL,                       -- 1, or 0 where it did all that it should have
    matters  INTEGER NOT NULL,                       -- 1 where it held somebody, signed a roster or failed
    envelope TEXT NOT NULL
) STRICT;
CREATE INDEX runs_source ON runs (source, at);
CREATE INDEX runs_matters ON runs (source, matters, at);
CREATE INDEX runs_received ON runs (source, received);
