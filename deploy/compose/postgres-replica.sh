#!/bin/sh
# The replica: a copy of the primary at the first start, which then follows it. To make it the primary when that is
# lost: `pg_ctl promote` here, and another host in secrets/database-url (README.md).
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # What a copy that was cut off has left.
    find "$PGDATA" -mindepth 1 -delete
    # It writes down how to follow: primary_conninfo, primary_slot_name, standby.signal.
    PGPASSWORD=$(cat "${REPLICATION_PASSWORD_FILE:-/run/secrets/replication-password}") \
        pg_basebackup --pgdata "$PGDATA" --host "$PRIMARY" --port "${PRIMARY_PORT:-5432}" --username replicator \
        --slot replica --wal-method stream --checkpoint fast --write-recovery-conf
fi
chmod 700 "$PGDATA"
exec postgres -D "$PGDATA" -c hot_standby=on -c "listen_addresses=*" "$@"
