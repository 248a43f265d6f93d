-- Other services on hosts. A row is written when something changes, and holds until the next one.
CREATE TABLE host_service (
    machine  TEXT NOT NULL COLLATE NOCASE,  -- its name; empty: the server's own host
    name     TEXT NOT NULL,
    url      TEXT NOT NULL,                 -- with its path
    status   TEXT NOT NULL,                 -- 'active', 'inactive', 'unknown'
    reason   TEXT,
    since_ms INTEGER NOT NULL,              -- since when it has been in this status
    known    TEXT,                          -- the last status other than 'unknown', of which an event tells; NULL: none
    revision INTEGER NOT NULL,
    PRIMARY KEY (machine, name)
) STRICT, WITHOUT ROWID;
