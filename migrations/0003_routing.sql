-- What routing needs to know beyond what is in memory.

-- How far the host's clock was before the server's when it last answered; NULL is unknown.
ALTER TABLE latest ADD COLUMN clock_ahead_s REAL;

-- The models on the disk of each machine, as its Ollama's /api/tags last said.
CREATE TABLE library (
    machine_id  INTEGER PRIMARY KEY REFERENCES machine (id),
    url         TEXT NOT NULL,
    asked_at_ms INTEGER NOT NULL,
    models      TEXT NOT NULL          -- JSON: [{"model", "digest", "size_bytes"}, ...]
) STRICT;

-- What a model took in memory when it was last loaded with that context, on any machine.
-- '' is an unknown digest, 0 an unknown context.
CREATE TABLE model_size (
    model           TEXT NOT NULL,
    digest          TEXT NOT NULL,
    context_length  INTEGER NOT NULL,
    size_bytes      INTEGER NOT NULL,
    size_vram_bytes INTEGER,
    seen_at_ms      INTEGER NOT NULL,
    PRIMARY KEY (model, digest, context_length)
) STRICT, WITHOUT ROWID;

INSERT OR REPLACE INTO model_size
SELECT model, coalesce(digest, ''), coalesce(context_length, 0), size_bytes, size_vram_bytes, first_seen_at_ms
FROM model_span WHERE size_bytes IS NOT NULL ORDER BY first_seen_at_ms;
