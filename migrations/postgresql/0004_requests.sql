-- What servers ask of those that poll. Nothing is lost that matters if it is lost, so nothing waits for a disk.
CREATE UNLOGGED TABLE request (
    site        text   NOT NULL,
    kind        text   NOT NULL,               -- 'model': to be looked for by all; 'machine': to be polled soon by its poller
    word        text   NOT NULL,
    number      bigint GENERATED ALWAYS AS IDENTITY, -- another one each time it is asked
    asked_at_ms bigint NOT NULL,
    PRIMARY KEY (site, kind, word)
);
