-- The agent that signed the request for a lease may renew and release it.
ALTER TABLE lease ADD COLUMN agent TEXT;                  -- NULL: nobody signed
