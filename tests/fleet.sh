#!/usr/bin/env bash
# Types docs/fleet.md: runs its ```sh blocks in order against a real agent, scrapes it with its ```yaml block, asks its ```promql blocks, and
# has its ```ini blocks judged by systemd.
#
#   AGENT=target/debug/nodeaudit PYTHON=python3-with-duckdb bash tests/fleet.sh
#
# Needs curl, jq, prometheus, promtool, systemd-journal-remote, and a Python with duckdb.
set -euo pipefail

fail() {
    echo "fleet: FAILED: $*" >&2
    exit 1
}

top=$(git rev-parse --show-toplevel)
agent=$(realpath "${AGENT:-$top/target/debug/nodeaudit}")
# By its own path, not that of what it links to: the environment of an interpreter is known by it.
python=$(command -v "${PYTHON:-python3}") || fail "there is no ${PYTHON:-python3}"
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
work=$(mktemp -d)
agent_pid=
prometheus_pid=
finish() {
    for pid in $agent_pid $prometheus_pid; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

# Waits for what a program does in its own time: at most two minutes.
eventually() {
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    fail "not seen in two minutes: $*"
}

cd "$work"
umask 077
mkdir bin
ln -s "$agent" bin/nodeaudit
printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" > bin/python3
chmod +x bin/python3
PATH=$work/bin:$PATH

# One file a block, named by its kind: sh.1, yaml.1, ...
awk '
    /^```(sh|yaml|promql|ini)$/ { kind = substr($0, 4); inside = 1; count[kind]++; next }
    /^```/ { inside = 0 }
    inside { print > (kind "." count[kind]) }
' "$top/docs/fleet.md"
[ "$(find . -maxdepth 1 -name 'sh.*' | wc -l)" -ge 4 ] || fail "docs/fleet.md has lost its blocks"

state=(--dev --state-dir "$work/state")
nodeaudit serve "${state[@]}" --listen 127.0.0.1:0 >agent.out 2>&1 &
agent_pid=$!
eventually grep -q 'http://127' agent.out
NODE=$(grep -o 'http://[0-9.:]*' agent.out | head -n 1)
token() { nodeaudit token issue "${state[@]}" --subject "$1" --ttl 1h "${@:2}"; }
TOKEN=$(token fleet@example.com --role auditor)
token fleet@example.com --role auditor > fleet.token
token prometheus@example.com --permission health:read > metrics.token
printf 'token_file = "fleet.token"\n[[node]]\nname = "node-7"\nurl = "%s"\n' "$NODE" > nodes.toml

# What is to be found: three refusals, and a call that is answered.
for _ in 1 2 3; do curl -sS -o /dev/null "$NODE/node/hostname"; done
curl -sS -o /dev/null -H "Authorization: Bearer $(token ops@example.com --role read)" "$NODE/node/hostname"

number=0
for block in $(find . -maxdepth 1 -name 'sh.*' | sort -V); do
    number=$((number + 1))
    echo "fleet: $block"
    sed 's/^/    /' "$block"
    # In this shell, as someone would who types one after the other.
    # shellcheck disable=SC1090
    . "$block" >"out.$number" 2>"err.$number" || fail "it ends with $?: $(cat "err.$number")"
    cat "out.$number"
    if grep -q journalctl "$block"; then
        [ "$(wc -l <"out.$number")" = 3 ] || fail "journalctl finds other than the three refusals"
    elif grep -q 'jq -r' "$block"; then
        grep -Eq '^ +3 127\.0\.0\.1	401	/node/hostname$' "out.$number" || fail "jq counts other than three refusals"
    elif grep -q duckdb "$block"; then
        grep -Eq 'node-7 .* denied .* 401 .* 3 ' "out.$number" || fail "DuckDB counts other than three refusals"
        grep -Eq 'node-7 .* read .* 200 ' "out.$number" || fail "DuckDB does not find the call that was answered"
        checked_duckdb=1
    elif grep -q 'csv' "$block"; then
        [ "$(grep -c ',/node/hostname,' node-7.csv)" = 4 ] || fail "the spreadsheet lacks entries"
    fi
done
[ -n "${checked_duckdb-}" ] || fail "no block asks DuckDB"

echo "fleet: prometheus"
[ "$(find . -maxdepth 1 -name 'yaml.*' | wc -l)" = 1 ] || fail "docs/fleet.md has no prometheus.yml"
# The agent has a port of its own here, and nobody wants to wait for the second scrape.
sed "s/127.0.0.1:8080/${NODE#http://}/; s/15s/1s/" yaml.1 > prometheus.yml
grep -q "${NODE#http://}" prometheus.yml || fail "the example names another target"
promtool check config prometheus.yml
prometheus --config.file=prometheus.yml --storage.tsdb.path=tsdb --web.listen-address=127.0.0.1:0 >prometheus.out 2>&1 &
prometheus_pid=$!
address() { grep -o 'msg="Listening on" address=[0-9.:]*' prometheus.out | grep -o '[0-9.]*:[0-9]*$'; }
eventually address
query() { promtool query instant "http://$(address)" "$1"; }
stored() { query 'nodeaudit_calls_total{operation="GetNodeHostname",code="4xx"}' | grep -q '=> 3 '; }
eventually stored
query 'nodeaudit_store_healthy' | grep -q '=> 1 ' || fail "the ring is not said to be healthy"
for block in $(find . -maxdepth 1 -name 'promql.*' | sort -V); do
    # A rule that names what is not there never fires: each thing in it must be one that is scraped, with those labels.
    grep -o 'nodeaudit_[a-z_]*\({[^}]*}\)\?' "$block" >selectors
    while read -r selector; do
        query "count($selector)" | grep -q '=>' || fail "there is no $selector"
    done <selectors
    query "$(cat "$block")" >/dev/null || fail "$block is no query: $(cat "$block")"
done

echo "fleet: units"
mkdir units
for block in ini.*; do
    unit=$(basename "$(sed -n '1s/^# //p' "$block")")
    sed "s|/usr/bin/nodeaudit|$agent|" "$block" > "units/$unit"
done
systemd-analyze verify --recursive-errors=no "$work"/units/*.service "$work"/units/*.timer 2>verify.err || fail "$(cat verify.err)"
[ ! -s verify.err ] || fail "$(cat verify.err)"
echo "fleet: all recipes work"
