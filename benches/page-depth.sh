#!/bin/sh
# The median time of the first page, of one at offset 10,000 and of the one at offset 999,980 of a million entries, in turn, in one run.
# Needs wrk, curl and jq. Prints the medians of each round and their ratios.
set -eu
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-5}
cargo build --release --quiet
agent=$PWD/target/release/nodeaudit
work=$(mktemp -d)
cd "$work"
export NODEAUDIT_AUDIT__MAX_ENTRIES=1200000 NODEAUDIT_AUDIT__MAX_BYTES=400000000
export NODEAUDIT_LIMITS__PEER_PER_S=0 NODEAUDIT_LIMITS__ACTOR_PER_S=0 NODEAUDIT_LIMITS__FAILURES_PER_MIN=0
"$agent" serve --dev --listen 127.0.0.1:0 >out 2>err &
pid=$!
trap 'kill $pid; wait $pid || true; rm -rf "$work"' EXIT
until url=$(grep -o 'http://[0-9.:]*' out | head -n 1) && [ -n "$url" ]; do kill -0 $pid; done
token=$("$agent" token issue --dev --subject bench@example.com --role admin --ttl 2h)
get() { curl -sf -H "Authorization: Bearer $token" "$url$1"; }

# One call in ten is refused and one changes something, so that all three classes are merged.
cat >fill.lua <<LUA
local headers = { ["Authorization"] = "Bearer $token" }
local n = 0
request = function()
  n = n + 1
  if n % 10 == 0 then return wrk.format("GET", "/node/hostname") end
  if n % 10 == 1 then return wrk.format("POST", "/node/power/reboot", headers) end
  return wrk.format("GET", "/node/hostname", headers)
end
LUA
while [ "$(get /audit/status | jq .entries)" -lt 1000000 ]; do
  wrk -t1 -c256 -d3s -s fill.lua "$url" >/dev/null
done
get /audit/status | jq -c '[.classes[] | {class, entries}]'

median_us() {
  wrk --latency -t1 -c1 -d2s -H "Authorization: Bearer $token" "$url/audit?limit=20&offset=$1" |
    awk '$1 == "50%" { sub("us", "", $2); if (sub("ms", "", $2)) $2 *= 1000; print $2 }'
}
# The first page is kept in memory; one a little deeper is read from the file as the deepest is.
for _ in $(seq "$rounds"); do
  echo "$(median_us 0) $(median_us 10000) $(median_us 999980)"
done | tee rounds | awk '{ printf "first page %d us, offset 10,000 %d us, offset 999,980 %d us\n", $1, $2, $3 }'

deepest_over() { # COLUMN of what it is compared with: the median of the ratios
  awk -v column="$1" '{ print $3 / $column }' rounds | sort -n | awk '{ ratio[NR] = $1 } END { printf "%.2f", ratio[int((NR + 1) / 2)] }'
}
echo "offset 999,980: $(deepest_over 1) of the first page, $(deepest_over 2) of offset 10,000"
