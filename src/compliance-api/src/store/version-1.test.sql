-- What a server of version 1 may have stored: its own ledger, a host that named another stack once and has a sweep dated
-- 2099, and one review posted twice.
INSERT INTO words VALUES (1, 'web'), (2, 'db'), (3, 'sweep.attested'), (4, 'review.completed'), (5, '');
INSERT INTO ledgers (id, ledger, kind, name, stack, state, created, head_seq, head_hash, head_received, last_type,
    last_time, next_by, records) VALUES
    (1, '00000000000000000000000000000001', 'server', 'compliance-api', 'compliance-api', 'enrolled', 5, 0, x'', 5, '', 5, NULL, 0),
    (2, '00000000000000000000000000000002', 'host', 'i-1', 'db', 'enrolled', 5, 4, x'', 1728000000000000, 'sweep.attested', 5, 4102444800000000, 4),
    (3, '00000000000000000000000000000003', 'person', 'alice', '', 'enrolled', 5, 2, x'', 5, 'review.completed', 5, NULL, 2);
INSERT INTO keys VALUES (1, 1, 'ssh-ed25519 AAAA'), (2, 1, 'ssh-ed25519 BBBB'), (2, 3, 'ssh-ed25519 CCCC');
INSERT INTO artifacts (id, ledger, seq, type, stack, time, received, flags, bytes) VALUES
    (1, 2, 1, 3, 1, 1728000000000000, 1, 0, x'7b7d'),
    (2, 2, 2, 3, 1, 1728000060000000, 2, 0, x'7b7d'),
    (3, 2, 3, 3, 1, 4070908800000000, 3, 1, x'7b7d'),
    (4, 2, 4, 3, 2, 1728000120000000, 4, 0, x'7b7d'),
    (5, 3, 1, 4, 5, 1728000000000000, 5, 0, CAST('{"person":"alice","signature":"a"}' AS BLOB)),
    (6, 3, 2, 4, 5, 1728000000000000, 6, 0, CAST('{"person":"alice","signature":"b"}' AS BLOB));
INSERT INTO reviews VALUES (5, 'alice', 1, 2, 3, NULL), (6, 'alice', 1, 2, 3, NULL);
