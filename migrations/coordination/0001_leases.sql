-- coordination.db: promises that web workers make. It may be deleted: then there are none.
-- Times are milliseconds since 1970 on the server's clock, but for ends_boot_ms.

CREATE TABLE lease (
    id              TEXT PRIMARY KEY,
    machine         TEXT NOT NULL,
    hostname        TEXT NOT NULL,
    port            INTEGER NOT NULL,
    model           TEXT NOT NULL,
    digest          TEXT,
    warmth          TEXT NOT NULL,       -- how near the model was when the lease was made
    shares          TEXT NOT NULL,       -- JSON: [[uuid of a GPU, "ram" or "reclaimable", bytes], ...]
    holder          TEXT NOT NULL,
    ttl_s           REAL NOT NULL,
    created_at_ms   INTEGER NOT NULL,
    ends_at_ms      INTEGER NOT NULL,
    boot            TEXT NOT NULL,       -- the boot of this machine that ends_boot_ms counts from: it does
    ends_boot_ms    INTEGER NOT NULL,    -- not leap when the wall clock is set
    load_s          REAL,                -- how long loading was expected to last
    size_bytes      INTEGER,             -- how much it was expected to take
    is_learned      INTEGER NOT NULL,    -- whether it is known how long loading lasted
    idempotency_key TEXT UNIQUE,
    request         TEXT NOT NULL        -- what was asked for under that key
) STRICT;

-- How long a model took to load on a machine, from the lease to its appearance in memory.
CREATE TABLE load_time (
    id         INTEGER PRIMARY KEY,
    machine    TEXT NOT NULL,
    key        TEXT NOT NULL,            -- of the name of the model
    size_bytes INTEGER,
    load_s     REAL NOT NULL
) STRICT;
CREATE INDEX load_time_by_model ON load_time (machine, key);
