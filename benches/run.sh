#!/usr/bin/env bash
# The benchmarks, side by side in one run: installs the peers from Debian, npm and PyPI, then calls benches/run.py.
# ROUNDS (5) and SECONDS_EACH (5) say how long; results go to target/bench: results.md, results.json, results.svg.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/target/bench
mkdir -p "$out"

need() { # COMMAND PACKAGE...: installs Debian packages where the command is missing
  command -v "$1" >/dev/null && return
  shift
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
need wrk wrk
need nginx nginx-light
need caddy caddy
need node nodejs
need npm npm
need python3 python3 python3-venv
if [ ! -d "$out/node_modules/better-sqlite3" ]; then
  npm install --silent --no-audit --no-fund --prefix "$out" express@5 better-sqlite3@12
fi
if [ ! -x "$out/venv/bin/datasette" ]; then
  python3 -m venv "$out/venv"
  "$out/venv/bin/pip" install -q fastapi uvicorn datasette
fi
cargo build --release --quiet --bin nodeaudit --example unaudited
exec python3 benches/run.py "$out" --rounds "${ROUNDS:-5}" --seconds "${SECONDS_EACH:-5}"
