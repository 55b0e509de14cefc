#!/usr/bin/env bash
# A PostgreSQL for tests: a cluster of its own, loopback only, password logins, fsync on as in production.
#   postgres.sh new                  makes $RUN/postgres.d and the control script $RUN/postgres; starts nothing
#   postgres.sh control postgres WORD
# The user gatehouse may create databases, so a test can have its own, and read their log.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
source "$HERE/common.sh"
NAME=postgres
DIR=$RUN/$NAME.d
BIN=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)

as_postgres() { (cd "$DIR" && setpriv --reuid=postgres --regid=postgres --init-groups env HOME="$DIR" LC_ALL=C.UTF-8 "$@"); }

new() {
  local port
  port=$(free_port)
  mkdir -p "$DIR"
  echo gatehouse >"$DIR/password"
  : >"$DIR/log"
  echo "PORT=$port" >"$DIR/settings"
  chown -R postgres:postgres "$DIR"
  as_postgres "$BIN/initdb" -D "$DIR/data" -U postgres --pwfile="$DIR/password" --auth=scram-sha-256 -E UTF8 \
    --locale=C.UTF-8 --no-sync >>"$DIR/log" 2>&1 || die "initdb failed" "$DIR/log"
  cat >>"$DIR/data/postgresql.conf" <<END
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 32MB
fsync = on
# What is read by log: a slot for each endpoint, and every test has its own.
wal_level = logical
max_replication_slots = 100
max_wal_senders = 100
max_slot_wal_keep_size = 2GB
END
  # Before it ever listens, in single mode: the user and the database.
  as_postgres "$BIN/postgres" --single -D "$DIR/data" postgres >>"$DIR/log" 2>&1 <<END || die "setup failed" "$DIR/log"
CREATE ROLE gatehouse LOGIN CREATEDB REPLICATION PASSWORD 'gatehouse'
CREATE DATABASE gatehouse OWNER gatehouse
END
  control_script "$NAME" "$HERE/postgres.sh"
}

answers() {
  alive "$DIR/pid" || die "$NAME ended while starting" "$DIR/log"
  [[ "$(sql -c 'select 1' 2>/dev/null)" == 1 ]]
}
sql() {
  PGPASSWORD=gatehouse PGCONNECT_TIMEOUT=3 "$BIN/psql" -X -q -A -t -h 127.0.0.1 -p "$PORT" -U gatehouse gatehouse "$@" </dev/null
}

# What a killed postmaster leaves: its lock file, whose pid a slow init may still show as a zombie (then no new one
# starts), and 56 bytes of shared memory that the file's 7th line names. Only when ours is certainly gone.
clear_dead() {
  local lock=$DIR/data/postmaster.pid
  if [[ -f $lock ]] && gone "$DIR/pid"; then
    ipcrm -m "$(awk 'NR == 7 { print $2 }' "$lock")" 2>/dev/null || true
    rm -f "$lock"
  fi
}

server_start() {
  cd "$DIR"
  clear_dead
  spawn "$DIR/pid" "$DIR/log" setpriv --reuid=postgres --regid=postgres --init-groups \
    env LC_ALL=C.UTF-8 HOME="$DIR" "$BIN/postgres" -D "$DIR/data"
  wait_until 60 answers || die "$NAME did not answer on port $PORT within 60 s" "$DIR/log"
}
server_stop() { end "$DIR/pid" INT 20; }

# kill -9 of the postmaster and of all its children: they hold its shared memory, and a new one will not start beside it.
server_kill() {
  local pid child children=()
  if ! alive "$DIR/pid"; then return 0; fi
  read -r pid _ <"$DIR/pid"
  for child in $(cat "/proc/$pid/task/$pid/children"); do
    echo "$child $(started_at "$child")" >"$DIR/child.$child"
    children+=("$DIR/child.$child")
  done
  end "$DIR/pid" KILL 10
  for child in "${children[@]}"; do end "$child" KILL 10; done
  clear_dead
}

server_word() {
  case $1 in
    url) echo "postgres://gatehouse:gatehouse@127.0.0.1:$PORT/gatehouse" ;;
    sql)
      shift
      sql "$@"
      ;;
    *) control_usage 'url|sql ARGUMENTS...' ;;
  esac
}

case $1 in
  new) new ;;
  control)
    # shellcheck source=/dev/null
    source "$DIR/settings"
    shift 2
    control "$@"
    ;;
esac
