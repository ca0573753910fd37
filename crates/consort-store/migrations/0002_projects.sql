-- Projects, signals and marks; which runs and decisions belong to a project, which workflows have triggers, and which dead
-- letters a group could not handle.

CREATE TABLE projects (
    namespace  TEXT NOT NULL,
    id         TEXT NOT NULL,
    uid        BLOB NOT NULL,
    state      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT;

CREATE INDEX projects_newest ON projects (namespace, created_at, uid);
CREATE INDEX projects_by_state ON projects (namespace, state, created_at, uid);

-- Runs without a project, which most are, cost nothing in these.
ALTER TABLE runs ADD COLUMN project TEXT;
CREATE INDEX runs_of_project ON runs (namespace, project, created_at, id) WHERE project IS NOT NULL;
-- Counts the runs of a project without reading their rows.
CREATE INDEX runs_of_project_by_state ON runs (namespace, project, state) WHERE project IS NOT NULL;

ALTER TABLE decisions ADD COLUMN kind TEXT NOT NULL DEFAULT 'choice';
ALTER TABLE decisions ADD COLUMN project TEXT;
CREATE INDEX decisions_of_project ON decisions (namespace, project, created_at, id) WHERE project IS NOT NULL;
CREATE INDEX decisions_to_clarify ON decisions (namespace, created_at, id) WHERE kind = 'clarification';

CREATE TABLE signals (
    id         BLOB PRIMARY KEY,
    namespace  TEXT NOT NULL,
    type       TEXT NOT NULL,
    project    TEXT,
    created_at INTEGER NOT NULL,
    body       TEXT NOT NULL
) STRICT;

CREATE INDEX signals_newest ON signals (namespace, created_at, id);
CREATE INDEX signals_by_type ON signals (namespace, type, created_at, id);
CREATE INDEX signals_of_project ON signals (namespace, project, created_at, id) WHERE project IS NOT NULL;

CREATE TABLE marks (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE workflows ADD COLUMN triggers INTEGER NOT NULL DEFAULT 0;
CREATE INDEX workflows_triggered ON workflows (namespace, id, revision) WHERE triggers = 1;

-- Absent, 0 and absent for an event that was not accepted at all.
ALTER TABLE dead_letters ADD COLUMN of_group TEXT;
ALTER TABLE dead_letters ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN position INTEGER;
ALTER TABLE dead_letters ADD COLUMN number INTEGER; -- of the event in the row at that position
