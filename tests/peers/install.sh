#!/usr/bin/env bash
# Puts real SOAP toolkits on this machine, for the tests to talk to: zeep and spyne (Python) and node-soap (Node) into a cache
# folder; PHP, xmllint (the judge of what is written by a schema) and xmlsec1 (the oracle of signatures) from apt. What is there
# already is left alone. Run by ./test; may be run alone.
# Every version is written down, also of what they drag along: requirements.txt, package-lock.json.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../servers/common.sh
source "$HERE/../servers/common.sh"

PEERS=${GATEHOUSE_TEST_CACHE:-${HOME:-/root}/.cache/gatehouse-test}/peers
# What is in the folder, so that a change of the versions makes it anew.
MARK=$(cat "$HERE/requirements.txt" "$HERE/package-lock.json" | sha256sum | cut -c1-16)
export DEBIAN_FRONTEND=noninteractive

# spyne needs Python 3.11 or older: newer ones have no `cgi`, and its bundled `six` does not load in 3.12.
python() { for p in python3.11 python3; do command -v "$p" && return; done; }
has_venv() { [[ -n $(python) ]] && "$(python)" -c 'import venv, ensurepip' 2>/dev/null; }
has_php() { php -r 'exit(extension_loaded("soap") ? 0 : 1);' 2>/dev/null; }
has_node() { command -v node >/dev/null && command -v npm >/dev/null; }

wanted() {
  has_venv || echo python3 python3-venv
  has_php || echo php-cli php-soap
  has_node || echo nodejs npm
  command -v xmllint >/dev/null || echo libxml2-utils
  command -v xmlsec1 >/dev/null || echo xmlsec1
}

mkdir -p "$PEERS"
exec 9>"$PEERS/lock"
flock -w 900 9 || die "another run holds $PEERS/lock for 15 minutes"
missing=$(wanted | xargs)
if [[ -n $missing ]]; then
  [[ $EUID == 0 ]] && command -v apt-get >/dev/null || die "the tests need: $missing; only root on a machine with apt can install them"
  say "apt-get install $missing"
  # shellcheck disable=SC2086
  apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing </dev/null >"$PEERS/apt.log" 2>&1 ||
    { apt-get update </dev/null >>"$PEERS/apt.log" 2>&1 && apt-get install -y --no-install-recommends $missing </dev/null >>"$PEERS/apt.log" 2>&1; } ||
    die "apt-get install failed" "$PEERS/apt.log"
fi
# The mark is written last and goes first: half a folder, or one of other versions, is never taken for whole.
whole() {
  [[ "$(cat "$PEERS/mark" 2>/dev/null)" == "$MARK" ]] && "$PEERS/venv/bin/python" -c '' 2>/dev/null &&
    [[ -d $PEERS/node/node_modules/soap ]]
}
if ! whole; then
  say "SOAP peers: fetching zeep, spyne and node-soap"
  rm -rf "$PEERS/mark" "$PEERS/venv" "$PEERS/node"
  "$(python)" -m venv "$PEERS/venv" >"$PEERS/pip.log" 2>&1 || die "python -m venv failed" "$PEERS/pip.log"
  "$PEERS/venv/bin/pip" install --quiet --disable-pip-version-check -r "$HERE/requirements.txt" >>"$PEERS/pip.log" 2>&1 ||
    die "pip install failed" "$PEERS/pip.log"
  mkdir -p "$PEERS/node"
  cp "$HERE/package.json" "$HERE/package-lock.json" "$PEERS/node/"
  (cd "$PEERS/node" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error </dev/null >"$PEERS/npm.log" 2>&1) ||
    die "npm ci failed" "$PEERS/npm.log"
  echo "$MARK" >"$PEERS/mark"
fi
say "SOAP peers: $(grep -E '^(zeep|spyne)=' "$HERE/requirements.txt" | xargs), \
node-soap $(sed -n 's/^  "version": "\(.*\)",/\1/p' "$PEERS/node/node_modules/soap/package.json" | head -1), PHP $(php -r 'echo PHP_VERSION;'), $(xmllint --version 2>&1 | sed -n 's/.*using libxml version \([0-9]*\).*/libxml \1/p')"
