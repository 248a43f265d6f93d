#!/bin/sh
# Makes the data folder of a standby: standby.sh DATA_FOLDER NAME CONNECTION, as the user who runs PostgreSQL, for instance
#   standby.sh /var/lib/postgresql/17/main standby1 "host=db1 user=replicator"
# DATA_FOLDER is empty or missing, and NAME is one of synchronous_standby_names. libpq finds the password in ~/.pgpass, where
# the standby needs it, too: *:*:*:replicator:PASSWORD, so that it also holds for the other host after a failover.
# Start the standby afterwards. If the primary dies: pg_ctl promote -D DATA_FOLDER (or SELECT pg_promote()).
set -eu
folder=$1 name=$2 connection=$3
exec "${PG_BASEBACKUP:-pg_basebackup}" --pgdata="$folder" --dbname="$connection application_name=$name" \
    --no-password --write-recovery-conf --wal-method=stream --create-slot --slot="$name" --checkpoint=fast
