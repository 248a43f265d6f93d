-- Of a request only a digest is kept, and that only where a key may repeat it; and the address that it came from, since
-- the leases of one holder, or of one address without, are counted.
ALTER TABLE lease DROP COLUMN request;
ALTER TABLE lease ADD COLUMN request_digest BLOB;         -- NULL: no key, or made before this was kept
ALTER TABLE lease ADD COLUMN address TEXT NOT NULL DEFAULT '';
CREATE INDEX lease_by_holder ON lease (holder, address);
