#!/bin/sh
# Lease a machine, send it one job and release it, with curl (7.82 or later) and jq.
set -eu
server=${MACHINES_URL:-http://127.0.0.1:3038}

question='{"model": "llama3.1:70b", "cold": true, "wait_s": 30, "ttl_s": 600}'
lease=$(curl -sS --fail-with-body --max-time 40 --json "$question" "$server/api/leases") || {
  printf '%s' "$lease" | jq -r .message >&2 # no machine is fit
  exit 1
}
id=$(printf '%s' "$lease" | jq -r .lease)
trap 'curl -sS -o /dev/null -X DELETE "$server/api/leases/$id"' EXIT
trap 'exit 1' HUP INT TERM

url=$(printf '%s' "$lease" | jq -r .url)
printf '%s' "$lease" | jq '{model, prompt: "Why is the sky blue?", stream: false}' |
  curl -sS --fail-with-body --max-time 500 --json @- "$url/api/generate" |
  jq -er '.response // halt_error'
