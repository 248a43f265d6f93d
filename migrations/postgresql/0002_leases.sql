-- Leases of machines. Times are milliseconds since 1970 by the clock of this database, which alone counts.

-- A part of a host: the URL of an endpoint, the UUID of a GPU, or "machine NAME". Who grants or renews a lease locks the
-- rows of its parts, in the order of their names and of one host only, until its transaction ends.
CREATE TABLE lease_lock (
    site text NOT NULL,
    part text NOT NULL,
    PRIMARY KEY (part, site)
) WITH (fillfactor = 50);

-- A reader reads what transactions changed that it did not see before. So a row that is over is kept for some time, with
-- gone_at_ms, until all readers know.
CREATE TABLE lease (
    id              text    PRIMARY KEY,
    site            text    NOT NULL,
    parts           text[]  NOT NULL,
    machine         text    NOT NULL,
    hostname        text    NOT NULL,
    port            integer NOT NULL,
    url             text    NOT NULL,
    credential      text,                      -- NULL: none
    model           text    NOT NULL,
    digest          text,
    warmth          text    NOT NULL,          -- how near the model was when the lease was made
    is_warm         boolean NOT NULL,          -- whether it was in memory
    shares          text    NOT NULL,          -- JSON: [[uuid of a GPU, "ram" or "reclaimable", bytes, until the end], ...]
    holder          text    NOT NULL,
    address         text    NOT NULL,
    ttl_s           double precision NOT NULL,
    created_at_ms   bigint  NOT NULL,
    ends_at_ms      bigint  NOT NULL,
    load_s          double precision,          -- how long loading was expected to last
    size_bytes      bigint,                    -- how much it was expected to take
    is_learned      boolean NOT NULL,          -- whether it is known how long loading lasted
    is_exclusive    boolean NOT NULL,
    released_at_ms  bigint,                    -- NULL: it is held, or has ended without being released
    gone_at_ms      bigint,                    -- NULL: it promises something
    idempotency_key text,
    request_digest  bytea,
    agent           text,                      -- who signed the request; NULL: nobody
    changed_in      xid8    NOT NULL           -- the transaction that wrote this row
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX lease_by_key ON lease (site, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX lease_by_change ON lease (site, changed_in);
CREATE INDEX lease_by_holder ON lease (site, holder, address) WHERE released_at_ms IS NULL AND gone_at_ms IS NULL;
CREATE INDEX lease_by_end ON lease (site, ends_at_ms) WHERE gone_at_ms IS NULL;
CREATE INDEX lease_gone ON lease (site, gone_at_ms) WHERE gone_at_ms IS NOT NULL;

-- The leases that promise something on each part. The column that tells rows apart is the first one of an index: to a
-- database that has no statistics yet, the first is enough.
CREATE TABLE lease_part (
    site  text NOT NULL,
    part  text NOT NULL,
    lease text NOT NULL,
    PRIMARY KEY (part, site, lease)
);

-- When leases ended that nobody released.
CREATE TABLE lease_expired (
    site        text   NOT NULL,
    ended_at_ms bigint NOT NULL
);
CREATE INDEX lease_expired_by_time ON lease_expired (site, ended_at_ms);

-- How long a model took to load on a machine, from the lease to its appearance in memory.
CREATE TABLE load_time (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site       text    NOT NULL,
    machine    text    NOT NULL,
    key        text    NOT NULL,               -- of the name of the model
    size_bytes bigint,
    load_s     double precision NOT NULL,
    changed_in xid8    NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX load_time_by_model ON load_time (site, machine, key);
CREATE INDEX load_time_by_change ON load_time (site, changed_in);

-- Locks the parts of a host, and then reads the leases that promise something on them: their ids, and the rows that could
-- not be seen in an earlier snapshot, or all of them if that is NULL. The second statement sees all that was written until
-- the locks were free. One row at least.
CREATE FUNCTION lock_host(wanted_site text, wanted text[], seen pg_snapshot)
RETURNS TABLE (at_ms bigint, seen_now text, is_locked boolean, lease_id text, unseen lease)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    locked bigint;
BEGIN
    PERFORM FROM lease_lock WHERE site = wanted_site AND part = ANY (wanted) ORDER BY part FOR UPDATE;
    GET DIAGNOSTICS locked = ROW_COUNT;
    is_locked := locked = cardinality(wanted);
    at_ms := now_ms();
    seen_now := pg_current_snapshot() || ' ' || extract(epoch FROM pg_postmaster_start_time());
    RETURN QUERY
    SELECT lock_host.at_ms, lock_host.seen_now, lock_host.is_locked, ids.id, written.one
    FROM (SELECT 1) AS once LEFT JOIN (
        SELECT DISTINCT promised.id FROM unnest(wanted) AS of_host (part), LATERAL (
            SELECT lease AS id FROM lease_part WHERE lease_part.part = of_host.part AND site = wanted_site OFFSET 0
        ) AS promised
    ) AS ids ON true LEFT JOIN LATERAL (
        SELECT one FROM lease AS one
        WHERE one.id = ids.id AND (seen IS NULL OR NOT pg_visible_in_snapshot(one.changed_in, seen))
        OFFSET 0
    ) AS written ON true;
END
$$;
