-- Grows with every transaction that writes rows, so that a reader finds those that are new to it.
ALTER TABLE latest ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
