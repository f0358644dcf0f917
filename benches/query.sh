#!/bin/sh
# What fleet managers do all day, in one run: polls, first pages, filtered searches, exports. Needs wrk, curl, jq and sqlite3.
# ENTRIES=1000000 unless said otherwise. Prints rates beside that of /health, and times beside those of the sqlite3 shell.
set -eu
cd "$(dirname "$0")/.."
entries=${ENTRIES:-1000000}
agent=${AGENT:-$PWD/target/release/nodeaudit}
[ -n "${AGENT:-}" ] || cargo build --release --quiet
work=$(mktemp -d)
cd "$work"
: >out
export NODEAUDIT_AUDIT__MAX_ENTRIES=$((entries * 6 / 5)) NODEAUDIT_AUDIT__MAX_BYTES=$((entries * 400 + 8000000))
export NODEAUDIT_LIMITS__PEER_PER_S=0 NODEAUDIT_LIMITS__ACTOR_PER_S=0 NODEAUDIT_LIMITS__FAILURES_PER_MIN=0
"$agent" serve --dev --listen 127.0.0.1:0 >out 2>err &
pid=$!
trap 'kill $pid; wait $pid || true; rm -rf "$work"' EXIT
until url=$(grep -o 'http://[0-9.:]*' out | head -n 1) && [ -n "$url" ]; do kill -0 $pid; done
token=$("$agent" token issue --dev --subject bench@example.com --role admin --ttl 2h)
auth="Authorization: Bearer $token"
get() { curl -sf -H "$auth" "$url$1"; }
rate() { wrk -t1 -c16 -d"${SECONDS_EACH:-3}s" "$@" | awk '$1 == "Requests/sec:" { print $2 }'; }

# One call in a thousand has a code that nothing else has.
cat >fill.lua <<LUA
local headers = { ["Authorization"] = "Bearer $token" }
local n = 0
request = function()
  n = n + 1
  if n % 1000 == 0 then return wrk.format("PUT", "/node/hostname", headers) end
  return wrk.format("GET", "/node/load", headers)
end
LUA
while [ "$(get /audit/status | jq .entries)" -lt "$entries" ]; do wrk -t1 -c64 -d2s -s fill.lua "$url" >/dev/null; done
held=$(get /audit/status | jq .entries)
echo "$held entries"

for _ in $(seq "${ROUNDS:-3}"); do
  health=$(rate "$url/health")
  tag=$(curl -s -D - -o /dev/null -H "$auth" "$url/audit" | tr -d '\r' | awk 'tolower($1) == "etag:" { print $2 }')
  polls=$(rate -H "$auth" -H "If-None-Match: $tag" "$url/audit")
  pages=$(rate -H "$auth" "$url/audit?limit=20")
  echo "$health $polls $pages" |
    awk '{ printf "/health %d/s; polls answered 304 %d/s, %.2f of it; first pages %d/s, %.2f of it\n", $1, $2, $2 / $1, $3, $3 / $1 }'
  ours=$(curl -s -o /dev/null -w '%{time_total}' -H "$auth" "$url/audit?limit=1&method=PUT&user=bench@example.com")
  before=$(date +%s.%N)
  for table in change read denied; do
    sqlite3 -readonly nodeaudit-state/ring.sqlite \
      "SELECT count(*) FROM $table WHERE method = 'PUT' AND user = 'bench@example.com'" >/dev/null
  done
  echo "$ours $before $(date +%s.%N)" |
    awk '{ printf "filtered search %.3f s, sqlite3 %.3f s, ratio %.2f\n", $1, $3 - $2, $1 / ($3 - $2) }'
  memory=$(awk '$1 == "VmRSS:" { print $2 }' /proc/$pid/status)
  echo 5 >/proc/$pid/clear_refs 2>/dev/null || true
  cpu=$(awk '{ print $14 + $15 }' /proc/$pid/stat)
  took=$(curl -s -o /dev/null -w '%{time_total}' -H "$auth" "$url/audit/export?format=ndjson")
  spent=$(($(awk '{ print $14 + $15 }' /proc/$pid/stat) - cpu))
  grown=$(($(awk '$1 == "VmHWM:" { print $2 }' /proc/$pid/status) - memory))
  echo "$held $took $spent $(getconf CLK_TCK) $grown" |
    awk '{ printf "export %.2f s, %d entries/s, %d entries/s of processor time, memory grew by %d KiB\n", $2, $1 / $2, $1 / ($3 / $4), $5 }'
done
