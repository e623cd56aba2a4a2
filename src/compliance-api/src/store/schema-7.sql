-- Version 7: signed checkpoints over the heads of all chains.

-- The leaves of each are not kept: they are where every chain stood when the last artifact stored was `newest`.
CREATE TABLE checkpoints (
    number  INTEGER PRIMARY KEY,                     -- from 1, without gaps
    newest  INTEGER NOT NULL,                        -- the row of the artifact that was stored last
    made    INTEGER NOT NULL,
    note    TEXT NOT NULL                            -- as it was signed
) STRICT;
