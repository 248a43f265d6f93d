#!/bin/sh
# Sends a signed request with openssl and curl alone: signed.sh METHOD URL [JSON]
#
# AGENT is the agent's name and KEY a private key that openssl reads:
#
#   openssl genpkey -algorithm ed25519 -out agent.pem
#   printf 'ssh-ed25519 %s agent\n' "$({ printf '\0\0\0\013ssh-ed25519\0\0\0\040'
#     openssl pkey -in agent.pem -pubout -outform DER | tail -c 32; } | openssl base64 -A)" >agent.pub
set -eu

method=$1 url=$2 body=${3-}
rest=${url#*://}
case $rest in */*) target=/${rest#*/} ;; *) target=/ ;; esac
timestamp=$(date -u +%Y-%m-%dT%H:%M:%SZ)
nonce=$(openssl rand -hex 16)
hash=$(printf %s "$body" | openssl dgst -sha256 -r | cut -d ' ' -f 1)

message=$(mktemp)
trap 'rm -f "$message"' EXIT
printf '%s\n%s\n%s\n%s\n%s' "$method" "$target" "$timestamp" "$nonce" "$hash" >"$message"
signature=$(openssl pkeyutl -sign -rawin -inkey "$KEY" -in "$message" | openssl base64 -A)

set -- --request "$method" --path-as-is --header "X-Agent-Id: $AGENT" --header "X-Timestamp: $timestamp" \
  --header "X-Nonce: $nonce" --header "X-Signature: $signature" --header 'X-Signature-Version: 2'
if [ -n "$body" ]; then
  set -- "$@" --header 'Content-Type: application/json' --data-raw "$body"
fi
curl --silent --show-error "$@" "$url"
