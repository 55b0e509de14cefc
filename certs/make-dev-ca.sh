#!/usr/bin/env bash
# Makes a development CA and, signed by it, one server and one client certificate, into a folder of your choice.
# For a developer's machine and for tests. Not for production: the CA's key lies unencrypted beside its certificate.
#   certs/make-dev-ca.sh FOLDER [HOST...]     more names or addresses for the server certificate
set -euo pipefail
umask 077

die() { echo "error: $*" >&2 && exit 1; }
(($# > 0)) && [[ $1 != -* ]] || { echo "usage: $0 FOLDER [HOST...]" >&2 && exit 2; }
command -v openssl >/dev/null || die "openssl is missing"
folder=$1
shift
[[ ! -e $folder/ca.key ]] || die "$folder/ca.key is there already: an old CA is never overwritten"
mkdir -p "$folder"
if git -C "$folder" rev-parse --is-inside-work-tree >/dev/null 2>&1 && ! git -C "$folder" check-ignore -q ca.key; then
  rmdir "$folder" 2>/dev/null || true
  die "$folder is inside a git work tree and not ignored: no private key goes into git"
fi
folder=$(cd "$folder" && pwd)
days=825

names='DNS:localhost,IP:127.0.0.1,IP:::1'
for host in "$@"; do
  if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
done

key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null ||
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# signed NAME SUBJECT EXTENSIONS: a key, a request, a certificate by the CA.
signed() {
  key "$folder/$1.key"
  openssl req -new -key "$folder/$1.key" -subj "$2" -out "$folder/$1.csr"
  openssl x509 -req -in "$folder/$1.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
    -sha256 -days "$days" -extfile <(printf '%s\n' "$3") -out "$folder/$1.crt" 2>/dev/null
  rm "$folder/$1.csr"
}

key "$folder/ca.key"
openssl req -x509 -new -key "$folder/ca.key" -sha256 -days "$days" -subj '/O=Gatehouse development/CN=Gatehouse development CA' \
  -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign' -out "$folder/ca.crt"
common='basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid'
signed server '/O=Gatehouse development/CN=localhost' "$common
extendedKeyUsage=serverAuth
subjectAltName=$names"
signed client '/O=Gatehouse development/CN=client' "$common
extendedKeyUsage=clientAuth
subjectAltName=DNS:client"
openssl verify -CAfile "$folder/ca.crt" -purpose sslserver "$folder/server.crt" >/dev/null
openssl verify -CAfile "$folder/ca.crt" -purpose sslclient "$folder/client.crt" >/dev/null
chmod 644 "$folder"/*.crt
echo "in $folder: ca.crt ca.key server.crt server.key client.crt client.key ($days days; server: $names)"
