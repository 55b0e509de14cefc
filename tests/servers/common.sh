#!/usr/bin/env bash
# What every script here shares: telling, waiting with a deadline, free ports, and processes that are known by their
# pid file AND their start time, so that nothing is ever signalled that this run did not start. Sourced, never run.
# Not here: anything that knows one server.

say() { printf '    %s\n' "$*"; }

# die MESSAGE [LOG]: the end of this script, with the tail of the server's log if there is one.
die() {
  printf 'error: %s\n' "$1" >&2
  if [[ -n "${2:-}" && -f "$2" ]]; then
    printf -- '--- the last lines of %s\n' "$2" >&2
    tail -n 40 "$2" | sed 's/\x1b\[[0-9;]*m//g' >&2 # without the brokers' colours
    printf -- '---\n' >&2
  fi
  exit 1
}

# wait_until SECONDS COMMAND...: true as soon as COMMAND is, false after SECONDS. COMMAND may die to give up early.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# A port nobody uses, below the kernel's ephemeral range so that no outgoing connection takes it meanwhile.
# Read from /proc: a minimal machine has no ss. Two calls of one run never answer the same port ($RUN/ports remembers).
free_port() {
  local port hex
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 12000))
    printf -v hex ':%04X ' "$port"
    if ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '{ print $2 " " }' | grep -q "$hex" &&
      mkdir "$RUN/ports/$port" 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  die "no free port between 20000 and 32000"
}

# The start time of a process in clock ticks; nothing for one that is gone or only waits to be reaped.
started_at() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) } # the name in brackets may hold anything
  set -- $stat
  [[ $1 != Z && $1 != X ]] && echo "${20}"
}

# A pid file holds "PID START". alive FILE: is that very process still there?
alive() {
  local pid start
  read -r pid start 2>/dev/null <"$1" && [[ -n $start && "$(started_at "$pid")" == "$start" ]]
}
gone() { ! alive "$1"; }

# spawn PIDFILE LOG COMMAND...: in a session of its own, so that the terminal's Ctrl-C stops only the one who asked.
spawn() {
  local file=$1 log=$2 pid
  shift 2
  ! alive "$file" || die "already running: $file"
  # The shell that says its own number becomes the server: exec keeps the pid through every wrapper.
  setsid bash -c 'echo $$ >"$0"; exec "$@"' "$file.new" "$@" </dev/null >>"$log" 2>&1 &
  wait_until 5 test -s "$file.new" || die "could not start $1" "$log"
  pid=$(cat "$file.new")
  rm -f "$file.new"
  echo "$pid $(started_at "$pid" || echo gone)" >"$file"
}

# signal FILE SIGNAL: to that very process, or nothing.
signal() {
  local pid
  if alive "$1"; then
    read -r pid _ <"$1"
    kill "-$2" "$pid" 2>/dev/null || true # it may have ended this very moment
  fi
}

# end FILE SIGNAL SECONDS: asks with SIGNAL, waits, then kill -9.
end() {
  signal "$1" "$2"
  wait_until "$3" gone "$1" || {
    signal "$1" KILL
    wait_until 10 gone "$1" || die "does not die: $1"
  }
  rm -f "$1"
}

# The words that each server's control script understands, told once. $DIR holds pid and log. The server's own script
# defines server_start (returns when it answers), server_stop, server_kill and server_word (its own words).
control() {
  local word=${1:-}
  shift || true
  case $word in
    start) alive "$DIR/pid" || server_start ;;
    kill) server_kill ;;
    stop) server_stop ;;
    restart)
      server_kill
      server_start
      ;;
    pause) signal "$DIR/pid" STOP ;;
    resume) signal "$DIR/pid" CONT ;;
    running) alive "$DIR/pid" ;;
    pid) alive "$DIR/pid" && cut -d' ' -f1 "$DIR/pid" ;;
    log) cat "$DIR/log" ;;
    *) server_word "$word" "$@" ;;
  esac
}

control_usage() {
  echo "usage: $CONTROL start|kill|stop|restart|pause|resume|running|pid|log|$1" >&2
  echo "  kill is kill -9; the data stays, start brings it back. restart is kill and start." >&2
  exit 2
}

# control_script NAME SCRIPT: writes $RUN/NAME, the command by which tests steer the server of $RUN/NAME.d.
control_script() {
  cat >"$RUN/$1" <<END
#!/usr/bin/env bash
RUN='$RUN' CONTROL="\$0" exec bash '$2' control '$1' "\$@"
END
  chmod 755 "$RUN/$1"
}
