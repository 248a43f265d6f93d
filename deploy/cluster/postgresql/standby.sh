#!/bin/sh
# Makes the data folder of a standby: standby.sh DATA_FOLDER NAME CONNECTION, as the user who runs PostgreSQL, for instance
#   standby.sh /var/lib/postgresql/17/main standby1 "host=db1 user=replicator"
# DATA_FOLDER is empty or missing, and NAME is one of synchronous_standby_names. libpq finds the password in ~/.pgpass, where
# the standby needs it, too: *:*:*:replicator:PASSWORD, so that it also holds for the other host after a failover.
# Start the standby afterwards. If it is interrupted, run it again.
# If the primary dies: stop it for good, then pg_ctl promote -D DATA_FOLDER (or SELECT pg_promote()).
set -eu
folder=$1 name=$2 connection=$3 incoming=$1/incoming
PATH=${PG_BINDIR:+$PG_BINDIR:}$PATH
if [ -e "$folder/PG_VERSION" ]; then
    echo "standby.sh: $folder already has a database" >&2
    exit 1
fi
mkdir -p "$folder"
chmod 700 "$folder"
rm -rf "$incoming"  # of a copy that was interrupted, which has left its slot as well
pg_receivewal --dbname="$connection" --no-password --drop-slot --slot="$name" 2>/dev/null || true
pg_basebackup --pgdata="$incoming" --dbname="$connection application_name=$name" \
    --no-password --write-recovery-conf --wal-method=stream --create-slot --slot="$name" --checkpoint=fast
find "$incoming" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv {} "$folder" \;
mv "$incoming/PG_VERSION" "$folder"
rmdir "$incoming"
