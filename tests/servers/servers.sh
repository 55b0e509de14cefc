#!/usr/bin/env bash
# All four servers of one test run, together: up, the environment that tells the tests where they are, and down.
#   servers.sh up RUN      into the fresh folder RUN, in parallel; writes RUN/env (export lines)
#   servers.sh epmd RUN    only what RabbitMQ's nodes find each other by, into RUN: for a test that makes nodes of its own
#   servers.sh down RUN    ends what RUN's pid files name and removes RUN
#   servers.sh sweep       ends and removes what runs that were killed left behind
# Not here: how each server is made (rabbitmq.sh, postgres.sh, mariadb.sh).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
source "$HERE/common.sh"

# Erlang's name service: ours, in the foreground, on a port of its own. Left to itself each node would start one and
# leave it behind.
epmd_up() {
  local port
  mkdir -p "$RUN/ports"
  chmod 755 "$RUN" # the servers' own users walk through it
  port=$(free_port)
  echo "$port" >"$RUN/epmd.port"
  spawn "$RUN/epmd.pid" "$RUN/epmd.log" setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups \
    epmd -port "$port" -address 127.0.0.1
}

# one_up NAME SCRIPT NEW-ARGUMENTS...
one_up() {
  local name=$1 script=$2 began=$SECONDS
  shift 2
  bash "$HERE/$script" new "$@" && "$RUN/$name" start && say "$name answers after $((SECONDS - began)) s: $("$RUN/$name" url)"
}

up() {
  local failed=0 job jobs=()
  epmd_up
  one_up rabbitmq310 rabbitmq.sh 310 rabbitmq310 & jobs+=($!)
  one_up rabbitmq40 rabbitmq.sh 40 rabbitmq40 & jobs+=($!)
  one_up postgres postgres.sh & jobs+=($!)
  one_up mariadb mariadb.sh & jobs+=($!)
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  ((failed == 0)) || die "not every server came up"
  cat >"$RUN/env" <<END
export GATEHOUSE_TEST_AMQP_310='$("$RUN/rabbitmq310" url)'
export GATEHOUSE_TEST_BROKER_310='$RUN/rabbitmq310'
export GATEHOUSE_TEST_AMQP_40='$("$RUN/rabbitmq40" url)'
export GATEHOUSE_TEST_BROKER_40='$RUN/rabbitmq40'
export GATEHOUSE_TEST_POSTGRES='$("$RUN/postgres" url)'
export GATEHOUSE_TEST_POSTGRES_CTL='$RUN/postgres'
export GATEHOUSE_TEST_MYSQL='$("$RUN/mariadb" url)'
export GATEHOUSE_TEST_MYSQL_CTL='$RUN/mariadb'
export GATEHOUSE_TEST_PEERS='${GATEHOUSE_TEST_CACHE:-${HOME:-/root}/.cache/gatehouse-test}/peers'
END
}

# The data goes with the run, so nobody is asked politely. One that will not die does not keep the others alive.
down() {
  local dir failed=0
  for dir in "$RUN"/*.d; do
    [[ ! -x ${dir%.d} ]] || "${dir%.d}" kill || failed=1
  done
  (end "$RUN/epmd.pid" KILL 10) || failed=1
  ((failed == 0)) || die "not everything ended; what is left is in $RUN"
  rm -rf "$RUN"
}

sweep() {
  local left
  for left in "${TMPDIR:-/tmp}"/gatehouse-test.*; do
    if [[ -f $left/owner && -O $left ]] && gone "$left/owner"; then
      say "an earlier run was cut off: ending its servers ($left)"
      RUN=$left
      down
    fi
  done
}

case ${1:-} in
  up | down)
    RUN=$2
    export RUN
    "$1"
    ;;
  epmd)
    RUN=$2
    export RUN
    epmd_up
    ;;
  sweep) sweep ;;
  *) die "usage: servers.sh up RUN | epmd RUN | down RUN | sweep" ;;
esac
