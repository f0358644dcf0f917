#!/usr/bin/env bash
# What reading many nodes costs: `nodeaudit pull` with a list of NODES names (200) that are all one agent, once through its whole ring and then
# ROUNDS times (20) with nothing new, over plain HTTP and over TLS. Prints processor time of both sides for a page and for a poll, and bytes.
# Needs curl and openssl.
set -euo pipefail
cd "$(dirname "$0")/.."
nodes=${NODES:-200} rounds=${ROUNDS:-20}
agent=${AGENT:-$PWD/target/release/nodeaudit}
[ -n "${AGENT:-}" ] || cargo build --release --quiet
work=$(mktemp -d)
cd "$work"
umask 077
pid=
trap 'kill $pid 2>/dev/null || true; wait $pid || true; rm -rf "$work"' EXIT
tick_us=$((1000000 / $(getconf CLK_TCK)))

# Microseconds of processor time: of the agent until now, and of the pull that ran last.
agent_us() { awk -v tick="$tick_us" '{ print ($14 + $15) * tick }' "/proc/$pid/stat"; }
pull() {
  local TIMEFORMAT='%U %S'
  { time "$agent" pull --nodes nodes.toml --out "out-$mode" >told 2>errors; } 2>spent || { cat told errors; exit 1; }
  awk '{ print int(($1 + $2) * 1000000) }' spent
}

"$agent" tls init --dev --state-dir tls --name localhost --address 127.0.0.1 >made
pin=$(awk '$1 == "SHA-256" { print $2 }' made)
for mode in http https; do
  printf 'audit.denied_entries = 4096\n' >config.toml
  [ $mode = http ] || printf '[tls]\ncertificate = "%s/tls/tls.crt"\nkey = "%s/tls/tls.key"\n' "$work" "$work" >>config.toml
  "$agent" serve --dev --listen 127.0.0.1:0 --config config.toml --state-dir "state-$mode" >out 2>err &
  pid=$!
  until url=$(grep -oE 'https?://[0-9.:]+' out | head -n 1) && [ -n "$url" ]; do kill -0 $pid; done
  token() { "$agent" token issue --dev --config config.toml --state-dir "state-$mode" --subject bench --role "$1" --ttl 1h; }
  token auditor >token
  # Entries as calls make them, of several kinds.
  for _ in $(seq 50); do
    for path in node/hostname node/load health "node/$RANDOM"; do
      curl -sk -o /dev/null -H "Authorization: Bearer $(token read)" -H "User-Agent: $RANDOM" "$url/$path"
    done
  done
  {
    printf 'token_file = "token"\n'
    for node in $(seq "$nodes"); do
      printf '[[node]]\nname = "node-%d"\nurl = "%s"\n' "$node" "$url"
      [ $mode = http ] || printf 'pin = "%s"\n' "$pin"
    done
  } >nodes.toml
  before=$(agent_us)
  pull_us=$(pull)
  entries=$(cat "out-$mode"/*.ndjson | wc -l)
  awk -v mode=$mode -v agent=$(($(agent_us) - before)) -v pull="$pull_us" -v entries="$entries" -v bytes="$(cat "out-$mode"/*.ndjson | wc -c)" \
    'BEGIN { printf "%s: 100 entries cost the agent %d us, pull %d us; an entry is %d bytes\n", mode, agent * 100 / entries, pull * 100 / entries, bytes / entries }'
  before=$(agent_us) pulls=0
  for _ in $(seq "$rounds"); do pulls=$((pulls + $(pull))); done
  awk -v mode=$mode -v agent=$(($(agent_us) - before)) -v pull="$pulls" -v polls=$((nodes * rounds)) \
    'BEGIN { printf "%s: a poll with nothing new costs the agent %d us, pull %d us\n", mode, agent / polls, pull / polls }'
  get() {
    curl -sk -o /dev/null -D head -H "Authorization: Bearer $(cat token)" -H 'Accept-Encoding: gzip' "$@" "$url/audit?after=0&limit=100" \
      -w "$mode: answer %{http_code}: %{size_request} bytes sent, %{size_header} + %{size_download} received\n"
  }
  get
  get -H "If-None-Match: $(tr -d '\r' <head | awk 'tolower($1) == "etag:" { print $2 }')"
  [ $mode = http ] || openssl s_client -connect "${url#https://}" </dev/null 2>/dev/null | grep 'SSL handshake has'
  kill $pid
  wait $pid || true
done
