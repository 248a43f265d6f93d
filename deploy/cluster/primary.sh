#!/bin/sh
# Run once by the image of PostgreSQL, while nobody else can connect: roles, the database, and who may replicate.
set -eu
secrets=${SECRETS:-/run/secrets}
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set machines="$(cat "$secrets/machines")" --set replicator="$(cat "$secrets/replicator")" <<'SQL'
CREATE ROLE machines LOGIN PASSWORD :'machines';
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replicator';
CREATE DATABASE machines OWNER machines ENCODING 'UTF8' TEMPLATE template0;
GRANT pg_read_all_stats TO machines;
ALTER SYSTEM SET synchronous_standby_names = 'standby1';
SQL
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"
