-- Where the holder of a lease sends requests, with scheme and the path of a proxy, and the name of the credential that they
-- need. A lease without a URL was made before this was kept: its Ollama is at hostname and port, by plain http.
ALTER TABLE lease ADD COLUMN url TEXT;
ALTER TABLE lease ADD COLUMN credential TEXT;             -- NULL: none
