#!/bin/sh
# Runs once, when the primary's database is made: the account that the replica copies by, and its slot, which keeps what
# the replica has not read yet (max_slot_wal_keep_size bounds it).
set -eu

password=$(cat "${REPLICATION_PASSWORD_FILE:-/run/secrets/replication-password}")
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set password="$password" <<'END'
CREATE ROLE replicator REPLICATION LOGIN PASSWORD :'password';
SELECT pg_create_physical_replication_slot('replica');
END
echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
psql --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --command 'SELECT pg_reload_conf()' >/dev/null
