#!/usr/bin/env bash
# Puts the SOAP toolkits of `./test interop` on this machine: Axis 1.4, JAX-WS RI, gSOAP, SOAP::Lite and Mono from apt, suds, zeep with
# xmlsec and mock-sap by pip and strong-soap by npm into a cache folder, where the programs that are written here against them are
# compiled too. About three minutes.
# Run by ./test interop; may be run alone.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../../servers/common.sh
source "$HERE/../../servers/common.sh"

FOLDER=${GATEHOUSE_TEST_CACHE:-${HOME:-/root}/.cache/gatehouse-test}/interop
MARK=$(cat "$HERE"/* "$HERE/../order.wsdl" "$HERE/../order.xsd" | sha256sum | cut -c1-16)
export DEBIAN_FRONTEND=noninteractive
python() { for p in python3.11 python3; do command -v "$p" && return; done; }

mkdir -p "$FOLDER"
exec 9>"$FOLDER/lock"
flock -w 900 9 || die "another run holds $FOLDER/lock for 15 minutes"
packages='libaxis-java libjaxws-java default-jdk-headless gsoap libgsoap-dev gcc libc6-dev libsoap-lite-perl mono-devel mono-mcs libmono-system-servicemodel4.0a-cil nodejs npm openssl'
missing=$(for p in $packages; do dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || echo "$p"; done | xargs)
command -v javac >/dev/null && missing=${missing//default-jdk-headless/}
command -v node >/dev/null && command -v npm >/dev/null && missing=${missing//nodejs/} && missing=${missing//npm/}
if [[ -n ${missing// /} ]]; then
  [[ $EUID == 0 ]] && command -v apt-get >/dev/null || die "./test interop needs: $missing; only root on a machine with apt can install them"
  say "apt-get install $missing"
  # shellcheck disable=SC2086
  apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing </dev/null >"$FOLDER/apt.log" 2>&1 ||
    { apt-get update </dev/null >>"$FOLDER/apt.log" 2>&1 && apt-get install -y --no-install-recommends $missing </dev/null >>"$FOLDER/apt.log" 2>&1; } ||
    die "apt-get install failed" "$FOLDER/apt.log"
fi
if [[ "$(cat "$FOLDER/mark" 2>/dev/null)" != "$MARK" ]]; then
  say "SOAP toolkits for interop: fetching and compiling"
  rm -rf "$FOLDER"/{mark,java,gsoap,mono,node,venv}
  mkdir -p "$FOLDER"/{java,gsoap,mono,node}
  # The toolkits do not share a class path: Axis brings javax.xml.soap of its time.
  path() { for jar in "$@"; do [[ -e /usr/share/java/$jar.jar ]] && printf '/usr/share/java/%s.jar:' "$jar"; done; }
  path axis axis-jaxrpc axis-saaj wsdl4j commons-logging commons-discovery javax.activation javax.mail >"$FOLDER/java/axis"
  path jaxws-api jaxws-rt jaxws-ri-runtime jaxb-api jaxb-runtime jaxb-core jaxb-impl saaj-impl saaj javax.activation jws-api stax-ex \
    streambuffer mimepull metro-policy istack-commons-runtime FastInfoset gmbal glassfish-management-api \
    geronimo-annotation-1.3-spec >"$FOLDER/java/jax"
  # Axis reads the classes of its time only.
  { javac -encoding UTF-8 --release 8 -Xlint:-options -d "$FOLDER/java" "$HERE/OldOrders.java" &&
    javac -encoding UTF-8 --release 11 -cp "$(cat "$FOLDER/java/jax")" -d "$FOLDER/java" "$HERE/Jax.java" &&
    cp "$HERE/server-config.wsdd" "$FOLDER/java/"; } >"$FOLDER/build.log" 2>&1 || die "javac failed" "$FOLDER/build.log"
  # -1: without it soapcpp2 makes a client that speaks SOAP 1.2 to a service of 1.1.
  (cd "$FOLDER/gsoap" && cp "$HERE/../order.wsdl" "$HERE/../order.xsd" "$HERE/gsoap_client.c" . &&
    wsdl2h -c -o order.h order.wsdl && soapcpp2 -1 -c -C -L -x order.h &&
    gcc -o client gsoap_client.c soapC.c soapClient.c -lgsoap -lssl -lcrypto -lz) >>"$FOLDER/build.log" 2>&1 ||
    die "gSOAP failed" "$FOLDER/build.log"
  (cd "$FOLDER/mono" && cp "$HERE/../order.wsdl" "$HERE/../order.xsd" . && wsdl -nologo -n:Orders -o:Proxy.cs order.wsdl order.xsd &&
    mcs -nologo -out:client.exe -r:System.Web.Services,System.Web.Extensions,System.Xml Proxy.cs "$HERE/MonoClient.cs" &&
    mcs -nologo -out:server.exe -r:System.ServiceModel,System.Runtime.Serialization,System.Web.Extensions "$HERE/MonoServer.cs") \
    >>"$FOLDER/build.log" 2>&1 || die "Mono failed" "$FOLDER/build.log"
  cp "$HERE/package.json" "$HERE/package-lock.json" "$FOLDER/node/"
  (cd "$FOLDER/node" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error </dev/null) >>"$FOLDER/build.log" 2>&1 ||
    die "npm ci failed" "$FOLDER/build.log"
  "$(python)" -m venv "$FOLDER/venv" >>"$FOLDER/build.log" 2>&1 || die "python -m venv failed" "$FOLDER/build.log"
  "$FOLDER/venv/bin/pip" install --quiet --disable-pip-version-check -r "$HERE/requirements.txt" >>"$FOLDER/build.log" 2>&1 ||
    die "pip install failed" "$FOLDER/build.log"
  echo "$MARK" >"$FOLDER/mark"
fi
say "SOAP toolkits for interop: Axis 1.4, JAX-WS RI, gSOAP, SOAP::Lite, suds, strong-soap, Mono, zeep with xmlsec, mock-sap"
