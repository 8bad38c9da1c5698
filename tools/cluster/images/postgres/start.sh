#!/bin/sh
# Lay down an empty database cluster on the first start, then serve. Needs POSTGRES_PASSWORD, a volume on /data.
set -eu
umask 077
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
