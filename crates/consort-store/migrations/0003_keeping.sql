-- Keeping: rows of runs and events that are over go to archives, and their positions are never used again.

-- Positions whose rows were taken out, as ranges that neither touch nor overlap. With time they grow together.
CREATE TABLE erased (
    first INTEGER PRIMARY KEY,
    last  INTEGER NOT NULL
) STRICT;

-- Runs that are half taken out or half brought back. What is left of them goes when the store is next opened.
CREATE TABLE leaving (
    run BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Runs without a parent, which most are, cost nothing in this; published events cost one entry in that.
CREATE INDEX runs_by_parent ON runs (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX log_published ON log (position) WHERE run IS NULL;
