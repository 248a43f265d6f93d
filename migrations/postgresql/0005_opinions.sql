-- A poller that suddenly reaches most machines of a shard no more asks another one before it calls them offline.
CREATE TABLE opinion (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site        text   NOT NULL,
    asker       text   NOT NULL,               -- the poller that asks
    asked_at_ms bigint NOT NULL,
    machines    text[] NOT NULL,
    answerer    text,                          -- the poller that looks; NULL: nobody yet
    reached     text[]                         -- the machines that answered it; NULL: it has not answered yet
);
