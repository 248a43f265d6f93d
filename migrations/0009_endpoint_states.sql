-- What is known of an endpoint is in rows that name its kind ('sidecar', 'ollama', ...), so that a new kind needs no column.

-- How the latest poll of each endpoint ended, and what its last answer said, which may be older.
CREATE TABLE new_latest (
    machine_id     INTEGER NOT NULL REFERENCES machine (id),
    endpoint       TEXT NOT NULL,
    url            TEXT NOT NULL,      -- without a path
    state          TEXT NOT NULL,
    reason         TEXT,
    hint           TEXT,               -- how to fix it
    polled_at_ms   INTEGER NOT NULL,
    answered_at_ms INTEGER,
    clock_ahead_s  REAL,               -- how far the host's clock was ahead when it answered; NULL is unknown
    up_since_ms    INTEGER,            -- since when it has answered, or been busy, at each poll; NULL is unknown
    revision       INTEGER NOT NULL,   -- grows with every transaction that writes rows
    models         TEXT,               -- JSON: the models in memory; NULL if the kind serves none
    host           TEXT,               -- JSON by the names of the metrics, sizes in bytes; NULL if it reports none
    PRIMARY KEY (machine_id, endpoint)
) STRICT;
INSERT INTO new_latest
SELECT machine_id, endpoint, replace(replace(url, '/metrics', ''), '/api/ps', ''), state, reason, NULL, polled_at_ms,
       answered_at_ms, clock_ahead_s, up_since_ms, revision,
       CASE endpoint WHEN 'ollama' THEN answer END, CASE endpoint WHEN 'sidecar' THEN answer END
FROM latest;
DROP TABLE latest;
ALTER TABLE new_latest RENAME TO latest;
UPDATE library SET url = replace(url, '/api/tags', '');

-- The state of each endpoint from a sample on until its next row: one when it changes, and one in each hour, so that old
-- rows can be deleted. NULL: the endpoint is no longer declared.
CREATE TABLE endpoint_state (
    machine_id INTEGER NOT NULL REFERENCES machine (id),
    at_ms      INTEGER NOT NULL,
    endpoint   TEXT NOT NULL,
    state      TEXT,
    PRIMARY KEY (machine_id, at_ms, endpoint)
) STRICT, WITHOUT ROWID;
INSERT INTO endpoint_state
SELECT machine_id, at_ms, 'sidecar', sidecar FROM sample AS one
WHERE coalesce(
    (SELECT sidecar IS NOT one.sidecar OR (sidecar IS NOT NULL AND at_ms / 3600000 != one.at_ms / 3600000)
     FROM sample WHERE machine_id = one.machine_id AND at_ms < one.at_ms ORDER BY at_ms DESC LIMIT 1),
    sidecar IS NOT NULL);
INSERT INTO endpoint_state
SELECT machine_id, at_ms, 'ollama', ollama FROM sample AS one
WHERE coalesce(
    (SELECT ollama IS NOT one.ollama OR (ollama IS NOT NULL AND at_ms / 3600000 != one.at_ms / 3600000)
     FROM sample WHERE machine_id = one.machine_id AND at_ms < one.at_ms ORDER BY at_ms DESC LIMIT 1),
    ollama IS NOT NULL);
ALTER TABLE sample DROP COLUMN sidecar;
ALTER TABLE sample DROP COLUMN ollama;
