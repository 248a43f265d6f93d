-- When leases ended that nobody released: many in a short time mean agents that die, or forget. Kept for minutes, or until the next one.
CREATE TABLE expired (
    ended_at_ms INTEGER NOT NULL         -- milliseconds since 1970 on the server's clock
) STRICT;
