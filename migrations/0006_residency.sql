-- How long each model was held by each machine, added up, so that no range of time has to read every stay.

CREATE TABLE holding (
    id              INTEGER PRIMARY KEY,
    machine_id      INTEGER NOT NULL REFERENCES machine (id),
    model           TEXT NOT NULL,
    last_seen_at_ms INTEGER NOT NULL,  -- the latest end of a stay
    UNIQUE (machine_id, model)
) STRICT;
CREATE INDEX holding_by_time ON holding (last_seen_at_ms);

-- At each moment at which a stay that has ended began or ended.
CREATE TABLE residency (
    holding_id  INTEGER NOT NULL REFERENCES holding (id),
    at_ms       INTEGER NOT NULL,
    stays       INTEGER NOT NULL,      -- how many go on from then until the next moment
    resident_ms INTEGER NOT NULL,      -- of all stays together, until then
    PRIMARY KEY (holding_id, at_ms)
) STRICT, WITHOUT ROWID;

-- Stays (from before this was kept) that are still to be added up, those that go on excepted. At most one row.
CREATE TABLE residency_due (
    from_id INTEGER NOT NULL,          -- ids of model_span: from this one
    to_id   INTEGER NOT NULL           -- to before this one
) STRICT;
INSERT INTO residency_due
SELECT (SELECT min(id) FROM model_span), (SELECT max(id) + 1 FROM model_span) WHERE EXISTS (SELECT 1 FROM model_span);
