#!/bin/sh
# Send a signed request with openssl and curl alone: signed.sh METHOD URL [JSON]
# AGENT is the agent's name, KEY a private key that openssl reads; ../signatures.md says how to make one.
set -eu
method=$1 url=$2 body=${3-}
rest=${url#*://}
target=/${rest#*/}
timestamp=$(date -u +%Y-%m-%dT%H:%M:%SZ)
nonce=$(openssl rand -hex 16)
hash=$(printf %s "$body" | openssl dgst -sha256 -r | cut -d ' ' -f 1)

message=$(mktemp)
trap 'rm -f "$message"' EXIT
printf '%s\n%s\n%s\n%s\n%s' "$method" "$target" "$timestamp" "$nonce" "$hash" >"$message"
signature=$(openssl pkeyutl -sign -rawin -inkey "$KEY" -in "$message" | openssl base64 -A)

set -- -H "X-Agent-Id: $AGENT" -H "X-Timestamp: $timestamp" -H "X-Nonce: $nonce" \
  -H "X-Signature: $signature" -H 'X-Signature-Version: 2'
[ -z "$body" ] || set -- "$@" -H 'Content-Type: application/json' --data-raw "$body"
curl -sS --path-as-is -X "$method" "$@" "$url"
