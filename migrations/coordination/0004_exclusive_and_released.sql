-- An exclusive lease is the only one on its host.
ALTER TABLE lease ADD COLUMN is_exclusive INTEGER NOT NULL DEFAULT 0;
-- A lease that was released before a sample could show its model is kept until one does, or for some seconds.
ALTER TABLE lease ADD COLUMN released_at_ms INTEGER;      -- NULL: it is held
