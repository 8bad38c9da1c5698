#!/bin/sh
# Lay down an empty database cluster on the first start, then serve. Needs POSTGRES_PASSWORD, a volume on /data.
# A pod that was deleted by force may still end while the next one begins: two servers on one directory break it, and
# PostgreSQL cannot see the other, as each is process 1 of its own container. The lock is held until the last process
# of the server has ended, for every one of them inherits its file.
set -eu
umask 077
exec 9> /data/lock
flock 9
if [ ! -e /data/pg ]; then
    rm -rf /data/new
    printf '%s' "$POSTGRES_PASSWORD" > /data/password
    initdb --pgdata /data/new --username levada --pwfile /data/password --auth scram-sha-256 \
        --encoding UTF8 --locale-provider builtin --locale C.UTF-8 > /dev/null
    rm /data/password
    echo 'create database levada' | postgres --single -D /data/new postgres > /dev/null
    echo 'host all all all scram-sha-256' >> /data/new/pg_hba.conf
    mv /data/new /data/pg
fi
exec postgres -D /data/pg -c listen_addresses='*' -c unix_socket_directories='' -c timezone=UTC "$@"
