-- The log: transitions of runs (run, sequence, count, hash are set) and published events (they are not).
-- Small columns stand before the body, so that a scan that filters does not read bodies.
CREATE TABLE log (
    position  INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    run       BLOB,
    root      BLOB, -- absent if it is the run itself
    sequence  INTEGER,
    count     INTEGER,
    at        INTEGER NOT NULL,
    hash      BLOB,
    body      BLOB NOT NULL
) STRICT;

-- Refuses a fork, and finds the records of a run.
CREATE UNIQUE INDEX log_by_run ON log (run, sequence) WHERE run IS NOT NULL;

CREATE TABLE runs (
    id         BLOB PRIMARY KEY,
    namespace  TEXT NOT NULL,
    workflow   TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at   INTEGER,
    wake_at    INTEGER,
    parent     BLOB,
    labels     TEXT, -- JSON; absent if there are none
    error      TEXT  -- JSON
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_newest ON runs (namespace, created_at, id);
CREATE INDEX runs_to_wake ON runs (wake_at) WHERE wake_at IS NOT NULL;
-- The rare ends that people look for; costs nothing for runs that go well.
CREATE INDEX runs_ended_badly ON runs (namespace, created_at, id) WHERE state IN (6, 7);

CREATE TABLE snapshots (
    run      BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    body     BLOB NOT NULL
) STRICT;

CREATE TABLE decisions (
    id         BLOB PRIMARY KEY,
    namespace  TEXT NOT NULL,
    run        BLOB NOT NULL,
    state      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    body       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX decisions_newest ON decisions (namespace, created_at, id);
CREATE INDEX decisions_by_run ON decisions (run, created_at, id);
CREATE INDEX decisions_open ON decisions (namespace, created_at, id) WHERE state = 'open';

-- Keys are hashes and come in any order, so only a small index is kept by key and not the rows.
CREATE TABLE requests (
    key         BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    answer      BLOB NOT NULL,
    at          INTEGER NOT NULL
) STRICT;

CREATE INDEX requests_by_age ON requests (at, key);

-- A workflow is deleted while its newest revision is marked so.
CREATE TABLE workflows (
    namespace  TEXT NOT NULL,
    id         TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    deleted    INTEGER NOT NULL DEFAULT 0,
    source     TEXT NOT NULL,
    PRIMARY KEY (namespace, id, revision)
) STRICT;

CREATE TABLE dead_letters (
    namespace TEXT NOT NULL,
    id        BLOB NOT NULL,
    reason    TEXT NOT NULL,
    at        INTEGER NOT NULL,
    event     TEXT NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT;
