-- On the primary, as a superuser: psql -v ON_ERROR_STOP=1 -f roles.sql, then \password machines and \password replicator.
CREATE ROLE machines LOGIN;
CREATE ROLE replicator LOGIN REPLICATION;
-- As the owner of its own database, it may create tables there, as the first server does.
CREATE DATABASE machines OWNER machines ENCODING 'UTF8' TEMPLATE template0;
-- Lets `machines-server doctor` see which standbys are synchronous.
GRANT pg_read_all_stats TO machines;
