-- How far the past of a server of its own has been copied into a site. It says so in the transaction that copies.
CREATE TABLE copied (
    site   text   NOT NULL,
    source text   NOT NULL,                    -- what tells one database of a server from another
    part   text   NOT NULL,                    -- 'stays', 'events', 'measurements'
    until  bigint NOT NULL,                    -- ids of rows up to this one, or times (ms) before this one
    detail text   NOT NULL DEFAULT '{}',       -- JSON
    PRIMARY KEY (site, source, part)
);
