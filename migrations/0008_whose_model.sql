-- What routing learns belongs to the machine that showed it.

-- What a model took in memory when it was last loaded with that context, on that machine.
-- '' is an unknown digest, 0 an unknown context, or a machine from before this was kept.
CREATE TABLE size_on_machine (
    machine_id      INTEGER NOT NULL,
    model           TEXT NOT NULL,
    digest          TEXT NOT NULL,
    context_length  INTEGER NOT NULL,
    size_bytes      INTEGER NOT NULL,
    size_vram_bytes INTEGER,
    seen_at_ms      INTEGER NOT NULL,
    PRIMARY KEY (machine_id, model, digest, context_length)
) STRICT, WITHOUT ROWID;
INSERT INTO size_on_machine
SELECT 0, model, digest, context_length, size_bytes, size_vram_bytes, seen_at_ms FROM model_size;
INSERT OR REPLACE INTO size_on_machine
SELECT machine_id, model, coalesce(digest, ''), coalesce(context_length, 0), size_bytes, size_vram_bytes, first_seen_at_ms
FROM model_span WHERE size_bytes IS NOT NULL ORDER BY first_seen_at_ms;
DROP TABLE model_size;
ALTER TABLE size_on_machine RENAME TO model_size;

-- As before, but what is long comes last, and is asked for anew. The revision is that of what wrote the row.
DROP TABLE library;
CREATE TABLE library (
    machine_id  INTEGER PRIMARY KEY REFERENCES machine (id),
    url         TEXT NOT NULL,
    asked_at_ms INTEGER NOT NULL,
    has_listed  INTEGER NOT NULL,      -- whether it ever listed a model: some look-alikes list none
    revision    INTEGER NOT NULL,
    models      TEXT NOT NULL          -- JSON: [{"model", "digest", "size_bytes", "is_remote"}, ...]
) STRICT;
CREATE INDEX library_by_revision ON library (revision);

-- Since when the endpoint has answered, or been busy, at each poll; NULL is unknown.
ALTER TABLE latest ADD COLUMN up_since_ms INTEGER;
