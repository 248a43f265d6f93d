-- Who grants leases locks the parts of several hosts by one statement, all at once and in the order of their names.
DROP FUNCTION lock_host(text, text[], pg_snapshot);
