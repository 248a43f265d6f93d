-- The numbers of signed requests. They are empty after a crash or a failover; then signatures from before are refused.
-- Nothing here is written to the log, so that no commit waits for a disk or a standby.
CREATE UNLOGGED TABLE nonce_0 (nonce bytea PRIMARY KEY);
CREATE UNLOGGED TABLE nonce_1 (nonce bytea PRIMARY KEY);
CREATE UNLOGGED TABLE nonce_state (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    since_ms bigint  NOT NULL,                 -- when recording began
    period   bigint  NOT NULL
);

-- Records a number, unless it is NULL; says whether it is new, since when numbers have been recorded, and the time. Numbers
-- are kept for one to two periods.
CREATE FUNCTION use_nonce(given bytea, period_ms bigint, OUT is_new boolean, OUT since_ms bigint, OUT at_ms bigint)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    now_period bigint := now_ms() / period_ms;
    latest bigint;
BEGIN
    IF given IS NOT NULL THEN
        -- One after the other of those who use this number: while a period ends, they may look into different tables.
        PERFORM pg_advisory_xact_lock(hashtextextended(encode(given, 'hex'), 7));
    END IF;
    SELECT state.since_ms, state.period INTO since_ms, latest FROM nonce_state AS state;
    IF latest IS NULL THEN
        INSERT INTO nonce_state (since_ms, period) VALUES (now_ms(), now_period) ON CONFLICT DO NOTHING;
        SELECT state.since_ms, state.period INTO since_ms, latest FROM nonce_state AS state;
    END IF;
    IF latest < now_period THEN
        SELECT state.period INTO latest FROM nonce_state AS state FOR UPDATE;
        IF latest < now_period THEN
            IF now_period % 2 = 0 OR latest < now_period - 1 THEN TRUNCATE nonce_0; END IF;
            IF now_period % 2 = 1 OR latest < now_period - 1 THEN TRUNCATE nonce_1; END IF;
            UPDATE nonce_state SET period = now_period;
            latest := now_period;
        END IF;
    END IF;
    is_new := false;
    at_ms := now_ms();
    IF given IS NULL THEN RETURN; END IF;
    LOCK TABLE nonce_0, nonce_1 IN ROW EXCLUSIVE MODE; -- in the order in which they are emptied
    IF latest % 2 = 0 THEN
        INSERT INTO nonce_0 SELECT given WHERE NOT EXISTS (SELECT FROM nonce_1 WHERE nonce = given)
        ON CONFLICT DO NOTHING;
    ELSE
        INSERT INTO nonce_1 SELECT given WHERE NOT EXISTS (SELECT FROM nonce_0 WHERE nonce = given)
        ON CONFLICT DO NOTHING;
    END IF;
    is_new := FOUND;
END $$;

-- What signs the links and sessions of people in a browser.
CREATE TABLE session_secret (
    site   text  PRIMARY KEY,
    secret bytea NOT NULL
);
