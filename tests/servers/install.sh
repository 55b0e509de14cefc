#!/usr/bin/env bash
# Puts the real servers on this machine: from apt RabbitMQ 3.10, MariaDB, PostgreSQL, and into a cache folder RabbitMQ
# 4.0 with all it needs, from the next Debian; unixODBC with its drivers for PostgreSQL and SQLite, libfaketime. What is there already is
# left alone; nothing is started.
# Not here: running them (rabbitmq.sh, mariadb.sh, postgres.sh). Run by ./test; may be run alone.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
source "$HERE/common.sh"

CACHE=${GATEHOUSE_TEST_CACHE:-${HOME:-/root}/.cache/gatehouse-test}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
TRIXIE_KEY=/usr/share/keyrings/debian-archive-trixie-automatic.gpg
POLICY=/usr/sbin/policy-rc.d
MARK='gatehouse ./test: installs start no services'
export DEBIAN_FRONTEND=noninteractive

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && command -v pg_lsclusters >/dev/null; }
has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null; }
has_odbc() { [[ -f /usr/include/sql.h ]] && grep -qs 'PostgreSQL Unicode' /etc/odbcinst.ini && grep -qs SQLite3 /etc/odbcinst.ini; }
has_trixie() { [[ -x "$CACHE/trixie/usr/lib/rabbitmq/bin/rabbitmq-server" ]]; }
has_trixie_key() { [[ -f $TRIXIE_KEY && -f $KEYRING ]]; }

wanted() {
  [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || echo rabbitmq-server
  [[ -x /usr/sbin/mariadbd ]] || echo mariadb-server
  has_postgres || echo postgresql
  has_faketime || echo libfaketime
  has_odbc || echo unixodbc-dev odbcinst odbc-postgresql libsqliteodbc
  has_trixie || [[ -x /usr/sbin/debootstrap ]] || echo debootstrap
  has_trixie || has_trixie_key || echo debian-archive-keyring
}

# Debian starts what it installs. A policy says no while we install, unless the machine has one of its own.
hold_services() {
  if [[ -f $POLICY ]] && ! grep -q "$MARK" "$POLICY"; then
    "$POLICY" rabbitmq-server start >/dev/null 2>&1 && say "note: $POLICY of this machine lets apt start services"
    return 0
  fi
  trap release_services EXIT
  printf '#!/bin/sh\n# %s\nexit 101\n' "$MARK" >"$POLICY"
  chmod 755 "$POLICY"
}
release_services() {
  if grep -qs "$MARK" "$POLICY"; then rm -f "$POLICY"; fi
}

apt_install() {
  local log=$CACHE/apt.log
  say "apt-get install $*"
  hold_services
  # One sick source of the machine's need not stop us: whether the packages come is what counts.
  apt-get update </dev/null >"$log" 2>&1 || say "note: apt-get update complained ($log)"
  apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" </dev/null >>"$log" 2>&1 ||
    die "apt-get install failed" "$log"
  release_services
}

# The mirror of this machine's own Debian release, as apt itself understands its sources (any format, any folder).
mirror() {
  local codename
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
  apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v c="$codename" '$1 == c && $2 == "main" { print $3; exit }'
}

# apt's proxy is debootstrap's proxy; apt keeps it in its configuration, wget reads the environment.
use_proxy_of_apt() {
  local p=
  eval "$(apt-config shell p Acquire::http::Proxy)"
  if [[ -n $p && $p != DIRECT ]]; then export http_proxy=$p; fi
  p=
  eval "$(apt-config shell p Acquire::https::Proxy)"
  if [[ -n $p && $p != DIRECT ]]; then export https_proxy=$p; fi
}

# RabbitMQ 4.0 is in Debian 13. Its packages are fetched with their signatures checked, and unpacked into a folder;
# no package script runs, so nothing outside that folder changes. Built aside and renamed: half a folder is never used.
build_trixie() {
  local from build log=$CACHE/trixie.log deb
  from=$(mirror)
  [[ -n $from ]] || die "apt names no mirror for this machine's Debian release (apt-get indextargets)"
  has_trixie_key || die "the keys of Debian 13 are missing ($TRIXIE_KEY): upgrade debian-archive-keyring"
  use_proxy_of_apt
  rm -rf "$CACHE"/trixie.new.* # an earlier attempt that was cut off; the lock below says no other is running
  build=$(mktemp -d "$CACHE/trixie.new.XXXXXX")
  chmod 755 "$build"
  say "RabbitMQ 4.0: fetching the packages of Debian 13"
  debootstrap --variant=minbase --download-only --keyring="$KEYRING" --include=rabbitmq-server \
    trixie "$build/fetched" "$from" </dev/null >"$log" 2>&1 || die "debootstrap failed" "$log"
  mkdir "$build/root"
  # base-files first: it lays the links (/bin, /lib, …) that the others are unpacked through.
  for deb in "$build"/fetched/var/cache/apt/archives/base-files_*.deb; do dpkg-deb -x "$deb" "$build/root"; done
  find "$build/fetched/var/cache/apt/archives" -name '*.deb' -print0 |
    xargs -0 -P "$(nproc)" -I{} dpkg-deb -x {} "$build/root" >>"$log" 2>&1 || die "unpacking failed" "$log"
  # What the package scripts would have made and the broker needs. Numbers as outside, so that files have one owner.
  getent passwd root rabbitmq >"$build/root/etc/passwd"
  getent group root rabbitmq >"$build/root/etc/group"
  echo 'hosts: files' >"$build/root/etc/nsswitch.conf"
  echo '127.0.0.1 localhost' >"$build/root/etc/hosts"
  mkdir -p "$build/root/run/broker"
  ls "$build/root/usr/lib/rabbitmq/lib" >>"$log"
  [[ -d $(echo "$build"/root/usr/lib/rabbitmq/lib/rabbitmq_server-4.*) ]] || die "Debian 13 has no RabbitMQ 4" "$log"
  rm -rf "$CACHE/trixie"
  mv "$build/root" "$CACHE/trixie"
  rm -rf "$build"
}

missing=$(wanted | xargs)
if [[ -n $missing ]] || ! has_trixie; then
  if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
    die "the tests need${missing:+: $missing, and} RabbitMQ 4.0 in $CACHE/trixie; only root on a machine with apt can \
install them. './test quick' runs without servers."
  fi
  mkdir -p "$CACHE"
  exec 9>"$CACHE/lock" # two runs at once: the second waits and finds everything made
  flock -w 900 9 || die "another run holds $CACHE/lock for 15 minutes"
  missing=$(wanted | xargs)
  # shellcheck disable=SC2086
  [[ -z $missing ]] || apt_install $missing
  has_trixie || build_trixie
fi
# The broker runs as a user of its own and must be able to walk to its files.
version=$(dpkg-query -W -f '${Version}' rabbitmq-server)
[[ $version == 3.10.* ]] || die "this machine's RabbitMQ is $version; the tests want 3.10 here (Debian 12) beside 4.0"
say "RabbitMQ $version and $(ls "$CACHE/trixie/usr/lib/rabbitmq/lib" | sed 's/rabbitmq_server-//'), \
$(/usr/sbin/mariadbd --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+-MariaDB' | head -1), \
PostgreSQL $(dpkg-query -W -f '${Version}' "postgresql-$(ls /usr/lib/postgresql | sort -n | tail -1)")"
