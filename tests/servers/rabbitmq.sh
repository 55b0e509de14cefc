#!/usr/bin/env bash
# One RabbitMQ broker for tests: 3.10 of this machine, or 4.0 out of the folder that install.sh unpacked, which it
# enters with chroot in a mount namespace of its own (when the broker dies, its mounts are gone).
#   rabbitmq.sh new 310|40 NAME      makes $RUN/NAME.d and the control script $RUN/NAME; starts nothing
#   rabbitmq.sh control NAME WORD    what the control script calls
# Everything listens on loopback: AMQP, Erlang's distribution, epmd (one for the whole run, see servers.sh).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
source "$HERE/common.sh"
CACHE=${GATEHOUSE_TEST_CACHE:-${HOME:-/root}/.cache/gatehouse-test}
case $1 in new) NAME=$3 ;; *) NAME=$2 ;; esac
DIR=$RUN/$NAME.d

new() {
  local version=$1 port dist
  port=$(free_port) dist=$(free_port)
  mkdir -p "$DIR/data"
  printf '%s' "$RANDOM$RANDOM$RANDOM$RANDOM" >"$DIR/.erlang.cookie"
  echo '[].' >"$DIR/plugins"
  cat >"$DIR/rabbitmq.conf" <<END
listeners.tcp.1 = 127.0.0.1:$port
log.file = false
log.console = true
log.console.level = info
# Small and quick to come back; big enough for every test.
raft.wal_max_size_bytes = 67108864
disk_free_limit.absolute = 50MB
END
  cat >"$DIR/settings" <<END
VERSION=$version
PORT=$port
DIST=$dist
CACHE='$CACHE'
EPMD=$(cat "$RUN/epmd.port")
END
  : >"$DIR/log"
  chmod 400 "$DIR/.erlang.cookie"
  chown -R rabbitmq:rabbitmq "$DIR"
  control_script "$NAME" "$HERE/rabbitmq.sh"
}

# as_broker COMMAND...: becomes COMMAND, as the user rabbitmq, in the world of this broker (exec: the pid stays).
as_broker() {
  local at=$DIR
  [[ $VERSION == 310 ]] || at=/run/broker
  local world=(
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$at" LANG=C.UTF-8 RUNNING_UNDER_SYSTEMD=true
    RABBITMQ_NODENAME="$NAME@localhost" RABBITMQ_DIST_PORT="$DIST"
    RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$at/rabbitmq.conf" RABBITMQ_ADVANCED_CONFIG_FILE=/dev/null
    RABBITMQ_ENABLED_PLUGINS_FILE="$at/plugins" RABBITMQ_MNESIA_BASE="$at/data" RABBITMQ_LOG_BASE="$at/data"
    RABBITMQ_GENERATED_CONFIG_DIR="$at/data/config" RABBITMQ_PID_FILE="$at/data/broker.pid"
    ERL_EPMD_PORT="$EPMD" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP=/dev/null
    ERL_AFLAGS="-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
  )
  if [[ $VERSION == 310 ]]; then
    cd "$DIR"
    exec setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups "${world[@]}" "$@"
  fi
  exec unshare --mount --propagation private bash -c '
    set -e
    root=$1 dir=$2
    shift 2
    mount --rbind /dev "$root/dev"
    mount --rbind /proc "$root/proc"
    mount --bind "$dir" "$root/run/broker"
    exec chroot --userspec=rabbitmq:rabbitmq "$root" "$@"' - "$CACHE/trixie" "$DIR" "${world[@]}" "$@"
}

# The broker's first frame after the protocol header is of type 1: it speaks AMQP, and its listeners open last.
answers() {
  alive "$DIR/pid" || die "$NAME ended while starting" "$DIR/log"
  timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT && printf 'AMQP\0\0\x09\x01' >&3 &&
    IFS= read -r -N1 -t1 b <&3 && [[ \$b == \$'\x01' ]]" 2>/dev/null
}

server_start() {
  rm -f "$DIR/data/broker.pid"
  spawn "$DIR/pid" "$DIR/log" bash "$HERE/rabbitmq.sh" control "$NAME" run-broker
  wait_until 90 answers || die "$NAME gave no AMQP answer on port $PORT within 90 s" "$DIR/log"
}
server_stop() { end "$DIR/pid" TERM 30; }
server_kill() { end "$DIR/pid" KILL 10; }

server_word() {
  case $1 in
    url) echo "amqp://guest:guest@127.0.0.1:$PORT/%2f" ;;
    ctl)
      shift
      as_broker /usr/lib/rabbitmq/bin/rabbitmqctl "$@"
      ;;
    run-broker) as_broker /usr/lib/rabbitmq/bin/rabbitmq-server ;;
    *) control_usage 'url|ctl ARGUMENTS...' ;;
  esac
}

case $1 in
  new) new "$2" ;;
  control)
    # shellcheck source=/dev/null
    source "$DIR/settings"
    shift 2
    control "$@"
    ;;
esac
