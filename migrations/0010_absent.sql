-- When the model was last known not to be in memory; NULL: nobody knows. A load that began later was seen from its start.
ALTER TABLE model_span ADD COLUMN absent_at_ms INTEGER;
