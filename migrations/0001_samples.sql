-- Times are milliseconds since 1970 on the server's clock. NULL is unknown, never 0.
-- Bytes are bytes, up is 0 or 1; every other measured value is kept in thousandths, as an integer: sums are exact, and it
-- takes a third of the space of a REAL.

CREATE TABLE machine (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE COLLATE NOCASE,
    file          TEXT NOT NULL,
    declared      TEXT NOT NULL,       -- JSON: the last good version of the file
    added_at_ms   INTEGER NOT NULL,
    removed_at_ms INTEGER              -- NULL while the file is there
) STRICT;

-- How the latest poll of each endpoint ended, and its last answer, which may be older.
CREATE TABLE latest (
    machine_id     INTEGER NOT NULL REFERENCES machine (id),
    endpoint       TEXT NOT NULL,
    url            TEXT NOT NULL,
    state          TEXT NOT NULL,
    reason         TEXT,
    polled_at_ms   INTEGER NOT NULL,
    answered_at_ms INTEGER,
    answer         TEXT,               -- JSON by the names of the metrics, sizes in bytes
    PRIMARY KEY (machine_id, endpoint)
) STRICT;

-- What one cycle learned of one machine. A state is NULL for an endpoint that the machine does not have.
CREATE TABLE sample (
    machine_id          INTEGER NOT NULL REFERENCES machine (id),
    at_ms               INTEGER NOT NULL,
    sidecar             TEXT,
    ollama              TEXT,
    up                  INTEGER NOT NULL,
    poll_s              INTEGER NOT NULL,
    cpu_percent         INTEGER,
    load_1m             INTEGER,
    load_5m             INTEGER,
    load_15m            INTEGER,
    ram_used_bytes      INTEGER,
    ram_total_bytes     INTEGER,
    ram_available_bytes INTEGER,
    disk_used_bytes     INTEGER,
    disk_total_bytes    INTEGER,
    uptime_s            INTEGER,
    PRIMARY KEY (machine_id, at_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE gpu (
    id          INTEGER PRIMARY KEY,
    machine_id  INTEGER NOT NULL REFERENCES machine (id),
    uuid        TEXT NOT NULL,
    position    INTEGER NOT NULL,      -- "index" in the API, as last seen
    model       TEXT,
    memory_kind TEXT NOT NULL,
    UNIQUE (machine_id, uuid)
) STRICT;

CREATE TABLE gpu_sample (
    gpu_id           INTEGER NOT NULL REFERENCES gpu (id),
    at_ms            INTEGER NOT NULL,
    vram_total_bytes INTEGER NOT NULL,
    vram_used_bytes  INTEGER NOT NULL,
    vram_free_bytes  INTEGER NOT NULL,
    utilisation      INTEGER,
    temperature_c    INTEGER,
    power_w          INTEGER,
    PRIMARY KEY (gpu_id, at_ms)
) STRICT, WITHOUT ROWID;

-- One row for each stay of a model in memory; a reload with another size or context is another stay.
CREATE TABLE model_span (
    id               INTEGER PRIMARY KEY,
    machine_id       INTEGER NOT NULL REFERENCES machine (id),
    model            TEXT NOT NULL,
    digest           TEXT,
    size_bytes       INTEGER,
    size_vram_bytes  INTEGER,
    context_length   INTEGER,
    first_seen_at_ms INTEGER NOT NULL,
    last_seen_at_ms  INTEGER           -- NULL while it is held
) STRICT;
CREATE INDEX model_span_by_machine ON model_span (machine_id, first_seen_at_ms);
CREATE INDEX model_span_held ON model_span (machine_id) WHERE last_seen_at_ms IS NULL;

-- One row for each unbroken run of poll cycles: outside of them nobody looked. The last one has the latest cycle.
CREATE TABLE poll_span (
    id                  INTEGER PRIMARY KEY,
    started_at_ms       INTEGER NOT NULL,
    cycle_started_at_ms INTEGER NOT NULL,
    ended_at_ms         INTEGER NOT NULL,
    interval_s          REAL NOT NULL,
    timeout_s           REAL NOT NULL
) STRICT;
