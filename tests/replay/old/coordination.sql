-- coordination.db as version 0.1.0 left it, with migrations 1 to 3, at the same moment.
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
CREATE TABLE schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL
) STRICT;
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
    idempotency_key TEXT UNIQUE, request_digest BLOB, address TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE load_time (
    id         INTEGER PRIMARY KEY,
    machine    TEXT NOT NULL,
    key        TEXT NOT NULL,            -- of the name of the model
    size_bytes INTEGER,
    load_s     REAL NOT NULL
) STRICT;
CREATE TABLE expired (
    ended_at_ms INTEGER NOT NULL         -- milliseconds since 1970 on the server's clock
) STRICT;
CREATE INDEX load_time_by_model ON load_time (machine, key);
CREATE INDEX lease_by_holder ON lease (holder, address);
INSERT INTO schema_migrations VALUES
(1,'0001_leases.sql','a43ec48770e0a03ae5740ed831d424d902b3a47ee15f9ffffc2e05f181bf7fc4','2026-11-28T20:03:06Z'),
(2,'0002_expired.sql','c96485846ff7da090d2fd93ae8595bbb2d0b2d1e851466b7295ea6342400c4b7','2026-11-28T20:03:06Z'),
(3,'0003_request_digest.sql','3de8374eca5e864ec4eb8a4a7378209a431cf374b349ed8457be4a401bd6b2ee','2026-11-28T20:03:06Z');
INSERT INTO lease VALUES
('EOdXFstlH5qu_XNL','veteran','127.8.2.1',21402,'llama3.1:70b','2891b6dd325db44a216cf8a88be3eb062b51593ced61fb21f9a9ba0e0aeef0f0','warm','[["GPU-new-1",4294967296]]','agent-1',3600.0,1795175999650,1795179599650,'an earlier boot',16804858,NULL,NULL,1,NULL,NULL,'127.0.0.1'),
('_wzyUguMGd2QfwKU','veteran','127.8.2.1',21402,'llama3.1:70b','2891b6dd325db44a216cf8a88be3eb062b51593ced61fb21f9a9ba0e0aeef0f0','warm','[["GPU-new-1",2684354560]]','agent-2',3500.5,1795175999754,1795179500254,'an earlier boot',16705462,NULL,NULL,1,'once',X'7CAC83181990F8CFEF4C6344FFBEB928C1F288AFB34F8BA8D74EA20A0209F7BF','127.0.0.1'),
('ivrTc2miiNvhcLOO','flaky','127.8.2.3',21406,'qwen2.5:32b','de679a7e5017dfc793707e8fca4f78bac13a0b421dec63394828ff8cd3a50a3f','cold','[["GPU-flaky-0",19327352832]]','łódź',3600.0,1795175999989,1795179599989,'an earlier boot',16805197,3.28299999237060546875e+00,19327352832,0,NULL,NULL,'127.0.0.1');
INSERT INTO load_time VALUES
(1,'flaky','registry.ollama.ai/library/qwen2.5:32b',16106127360,3.28299999237060546875e+00);
INSERT INTO expired VALUES
(1795175999086);
COMMIT;
