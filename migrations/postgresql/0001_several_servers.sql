-- Times are milliseconds since 1970 by the clock of this database. NULL is unknown, never 0.
-- A site is a fleet of its own: the servers of one site poll the machines of one folder.

CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- A part of a site's machines, and who polls it. Every write of a poll checks owner and epoch in its transaction, so that
-- a poller that lost the shard writes nothing. No session locks: PgBouncer breaks them, and a cut network keeps them.
CREATE TABLE shard (
    id            integer  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site          text     NOT NULL,
    number        smallint NOT NULL,           -- 0 to 255
    owner         text,                        -- the poller; NULL: nobody
    epoch         bigint   NOT NULL DEFAULT 0, -- grows whenever the owner changes
    expires_at_ms bigint   NOT NULL DEFAULT 0, -- from then on others may take it
    revision      bigint   NOT NULL DEFAULT 0, -- grows with every transaction that writes polls
    rare_revision bigint   NOT NULL DEFAULT 0, -- grows with those that write what changes rarely
    UNIQUE (site, number)
) WITH (fillfactor = 50);

-- The processes that poll, each as long as it renews its row, and the latest cycle of each.
CREATE TABLE poller (
    id                  text    PRIMARY KEY,
    site                text    NOT NULL,
    server              text    NOT NULL,      -- the name of its host
    pid                 integer NOT NULL,
    since_ms            bigint  NOT NULL,
    expires_at_ms       bigint  NOT NULL,
    rests_until_ms      bigint  NOT NULL DEFAULT 0, -- until then others poll its share: it cannot reach hosts that they reach
    files               text    NOT NULL,      -- the hash of its machine files
    faults              text    NOT NULL DEFAULT '{}', -- JSON: sentences by part
    cycle_started_at_ms bigint,
    cycle_ended_at_ms   bigint,
    interval_s          double precision NOT NULL,
    timeout_s           double precision NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE machine (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard_id      integer NOT NULL REFERENCES shard (id),
    site          text    NOT NULL,
    key           text    NOT NULL,            -- its name, case-folded
    name          text    NOT NULL,
    names         text[]  NOT NULL,            -- all spellings of it, which the series of its past have
    file          text    NOT NULL,
    declared      text    NOT NULL,            -- JSON: the last good version of the file
    added_at_ms   bigint  NOT NULL,
    removed_at_ms bigint,                      -- NULL while the file is there
    UNIQUE (site, key)
);
CREATE INDEX machine_by_shard ON machine (shard_id);

-- How the latest poll of each endpoint ended, and what its last answer said. It is empty after a crash or a failover: then
-- nothing is known of the present. No index has a column that changes, so that updates stay on their page.
CREATE UNLOGGED TABLE latest (
    shard_id       integer NOT NULL,
    machine_id     integer NOT NULL,
    endpoint       text    NOT NULL,
    url            text    NOT NULL,
    state          text    NOT NULL,
    reason         text,
    hint           text,
    polled_at_ms   bigint  NOT NULL,
    answered_at_ms bigint,
    clock_ahead_s  double precision,
    up_since_ms    bigint,
    revision       bigint  NOT NULL,           -- that of the shard when it was written
    models         text,               -- JSON: the models in memory; NULL if the kind serves none
    host           text,               -- JSON by the names of the metrics; NULL if it reports none
    PRIMARY KEY (shard_id, machine_id, endpoint)
) WITH (fillfactor = 50);
ALTER TABLE latest ALTER COLUMN models SET STORAGE MAIN, ALTER COLUMN host SET STORAGE MAIN;

CREATE TABLE library (
    machine_id  integer PRIMARY KEY REFERENCES machine (id),
    url         text    NOT NULL,
    asked_at_ms bigint  NOT NULL,
    has_listed  boolean NOT NULL,
    revision    bigint  NOT NULL,              -- the rare revision of the shard when it was written
    models      text    NOT NULL               -- JSON
);

CREATE TABLE model_size (
    machine_id      integer NOT NULL REFERENCES machine (id),
    model           text    NOT NULL,
    digest          text    NOT NULL,          -- '' is unknown
    context_length  bigint  NOT NULL,          -- 0 is unknown
    size_bytes      bigint  NOT NULL,
    size_vram_bytes bigint,
    seen_at_ms      bigint  NOT NULL,
    PRIMARY KEY (machine_id, model, digest, context_length)
);

CREATE TABLE gpu (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    machine_id       integer NOT NULL REFERENCES machine (id),
    uuid             text    NOT NULL,
    position         integer NOT NULL,
    model            text,
    memory_kind      text    NOT NULL,
    first_seen_at_ms bigint  NOT NULL,
    UNIQUE (machine_id, uuid)
);

CREATE TABLE model_span (
    id               bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    machine_id       integer NOT NULL REFERENCES machine (id),
    model            text    NOT NULL,
    digest           text,
    size_bytes       bigint,
    size_vram_bytes  bigint,
    context_length   bigint,
    first_seen_at_ms bigint  NOT NULL,
    last_seen_at_ms  bigint,                   -- NULL while it is held
    absent_at_ms     bigint
);
CREATE INDEX model_span_by_machine ON model_span (machine_id, first_seen_at_ms);
CREATE INDEX model_span_held ON model_span (machine_id) WHERE last_seen_at_ms IS NULL;

CREATE TABLE holding (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    machine_id      integer NOT NULL REFERENCES machine (id),
    model           text    NOT NULL,
    last_seen_at_ms bigint  NOT NULL,
    UNIQUE (machine_id, model)
);
CREATE INDEX holding_by_time ON holding (last_seen_at_ms);

CREATE TABLE residency (
    holding_id  integer NOT NULL REFERENCES holding (id),
    at_ms       bigint  NOT NULL,
    stays       bigint  NOT NULL,
    resident_ms bigint  NOT NULL,
    PRIMARY KEY (holding_id, at_ms)
);

-- One row for each unbroken run of poll cycles of one poller.
CREATE TABLE poll_span (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site                text   NOT NULL,
    poller              text   NOT NULL,
    started_at_ms       bigint NOT NULL,
    ended_at_ms         bigint NOT NULL
);
CREATE INDEX poll_span_by_time ON poll_span (site, ended_at_ms);

CREATE TABLE host_service (
    machine_id integer NOT NULL REFERENCES machine (id),
    name       text    NOT NULL,
    url        text    NOT NULL,
    status     text    NOT NULL,               -- 'active', 'inactive', 'unknown'
    reason     text,
    since_ms   bigint  NOT NULL,
    known      text,                           -- the last status other than 'unknown'; NULL: none
    PRIMARY KEY (machine_id, name)
);

-- The services of the host of each server.
CREATE TABLE own_service (
    site     text   NOT NULL,
    server   text   NOT NULL,
    name     text   NOT NULL,
    url      text   NOT NULL,
    status   text   NOT NULL,
    reason   text,
    since_ms bigint NOT NULL,
    known    text,
    PRIMARY KEY (site, server, name)
);

-- Ids of events are in the order of their transactions, so that whoever reads those after an id misses none: a sequence
-- would give a number to a transaction that ends after the next one.
CREATE TABLE event_counter (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), value bigint NOT NULL);
INSERT INTO event_counter (value) VALUES (0);
CREATE TABLE event (
    id         bigint  PRIMARY KEY,               -- from the counter
    at_ms      bigint  NOT NULL,
    machine_id integer NOT NULL REFERENCES machine (id),
    type       text    NOT NULL,
    detail     text    NOT NULL                -- JSON object
);
CREATE INDEX event_by_time ON event (at_ms);
CREATE INDEX event_by_machine ON event (machine_id, at_ms);
CREATE INDEX event_status ON event (machine_id, at_ms, id, type)
WHERE type IN ('online', 'degraded', 'offline', 'unknown', 'machine_removed');
