-- Finds the changes of status of each machine, which are few among all events, in their order.
CREATE INDEX event_status ON event (machine_id, at_ms, id, type)
WHERE type IN ('online', 'degraded', 'offline', 'unknown', 'machine_removed');
