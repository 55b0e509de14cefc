#!/usr/bin/env bash
# A MariaDB for tests (the MySQL protocol): a data folder of its own, loopback only, utf8mb4, every commit on disk.
#   mariadb.sh new                   makes $RUN/mariadb.d and the control script $RUN/mariadb; starts nothing
#   mariadb.sh control mariadb WORD
# The user gatehouse may do everything, so a test can have its own database.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
source "$HERE/common.sh"
NAME=mariadb
DIR=$RUN/$NAME.d

new() {
  local port
  port=$(free_port)
  mkdir -p "$DIR/data" "$DIR/tmp"
  : >"$DIR/log"
  echo "PORT=$port" >"$DIR/settings"
  cat >"$DIR/my.cnf" <<END
[mariadbd]
user = mysql
datadir = $DIR/data
tmpdir = $DIR/tmp
port = $port
bind-address = 127.0.0.1
socket = $DIR/socket
pid-file = $DIR/data/mariadbd.pid
skip-name-resolve
character-set-server = utf8mb4
collation-server = utf8mb4_unicode_ci
innodb-buffer-pool-size = 64M
innodb-log-file-size = 16M
innodb-flush-log-at-trx-commit = 1
max-connections = 200
# What is read by log.
server-id = 1
log-bin = binlog
binlog-format = ROW
binlog-row-metadata = FULL
sync-binlog = 1
END
  cat >"$DIR/first.sql" <<END
CREATE DATABASE IF NOT EXISTS gatehouse CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE USER IF NOT EXISTS 'gatehouse'@'127.0.0.1' IDENTIFIED BY 'gatehouse';
GRANT ALL PRIVILEGES ON *.* TO 'gatehouse'@'127.0.0.1' WITH GRANT OPTION;
END
  chown -R mysql:mysql "$DIR"
  mariadb-install-db --defaults-file="$DIR/my.cnf" --auth-root-authentication-method=socket --skip-test-db \
    --innodb-flush-log-at-trx-commit=0 </dev/null >>"$DIR/log" 2>&1 || die "mariadb-install-db failed" "$DIR/log"
  control_script "$NAME" "$HERE/mariadb.sh"
}

answers() {
  alive "$DIR/pid" || die "$NAME ended while starting" "$DIR/log"
  [[ "$(sql -e 'select 1' 2>/dev/null)" == 1 ]]
}
sql() {
  MYSQL_PWD=gatehouse mariadb --no-defaults --protocol=tcp -h 127.0.0.1 -P "$PORT" -u gatehouse -N -B \
    --connect-timeout=3 --default-character-set=utf8mb4 gatehouse "$@" </dev/null
}

server_start() {
  spawn "$DIR/pid" "$DIR/log" /usr/sbin/mariadbd --defaults-file="$DIR/my.cnf" --init-file="$DIR/first.sql"
  wait_until 60 answers || die "$NAME did not answer on port $PORT within 60 s" "$DIR/log"
}
server_stop() { end "$DIR/pid" TERM 30; }
server_kill() { end "$DIR/pid" KILL 10; }

server_word() {
  case $1 in
    url) echo "mysql://gatehouse:gatehouse@127.0.0.1:$PORT/gatehouse" ;;
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
