#!/usr/bin/env bash
# Types the README: runs its ```sh blocks in order, in a clean clone of the commit that is checked out, as a new user would.
#
#   bash tests/readme.sh           everything
#   FAST=1 bash tests/readme.sh    without the static build and without `cargo test`
#
# A block that serves runs in the background until the others are done. Port 8080 of the loopback must be free.
# Dependencies are compiled into this tree's target folder, or CARGO_TARGET_DIR, so that they are compiled once.
set -euo pipefail

fail() {
    echo "readme: FAILED: $*" >&2
    exit 1
}

top=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

(exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null && fail "something listens on 127.0.0.1:8080 already"
git clone -q "$top" "$work/clone"
cd "$work/clone"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$top/target}

# One file a block: block.1, block.2, ...
awk -v prefix="$work/block." '
    /^```sh$/ { inside = 1; blocks++; next }
    /^```$/ { inside = 0 }
    inside { print > (prefix blocks) }
' README.md
blocks=$(find "$work" -maxdepth 1 -name 'block.*' | wc -l)
[ "$blocks" -gt 0 ] || fail "README.md has no sh blocks"

start_server() {
    cargo build --release
    # `exec`, so that the process ID is the agent's own.
    bash -c "exec $(cat "$1")" >"$work/server.out" 2>&1 &
    server=$!
    for _ in $(seq 300); do
        curl -sf -o /dev/null http://127.0.0.1:8080/health && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/server.out" >&2
    fail "the agent does not answer"
}

skipped=0
for number in $(seq "$blocks"); do
    block=$work/block.$number
    echo "readme: block $number of $blocks"
    sed 's/^/    /' "$block"
    if grep -q -- 'serve --dev' "$block"; then
        start_server "$block"
        continue
    fi
    if [ "${FAST-}" = 1 ] && grep -qE -- '--profile dist|^cargo test' "$block"; then
        echo "readme: SKIPPED block $number, because FAST=1"
        skipped=$((skipped + 1))
        continue
    fi
    # In this shell: later blocks use what earlier ones set, such as TOKEN.
    # shellcheck disable=SC1090
    . "$block" >"$work/out.$number"
    cat "$work/out.$number"
    if [ "$number" -gt 1 ] && grep -q '/node/hostname' "$block" && ! grep -q '/audit' "$block"; then
        grep -q '^{"hostname":"' "$work/out.$number" || fail "no host name in the answer"
        called=$number
    elif [ -n "${called-}" ] && [ "$number" = $((called + 1)) ]; then
        grep -q '"path":"/node/hostname","operation_id":"GetNodeHostname"' "$work/out.$number" ||
            fail "the next answer of /audit lacks the entry of the call to /node/hostname"
        grep -q '"user":"ops@example.com"' "$work/out.$number" || fail "the entry names another user"
        entry_seen=1
    elif grep -q '^curl -s http' "$block"; then
        grep -q '"code":401' "$work/out.$number" || fail "a call without a token is not refused"
        grep -q '"response_code":401,.*"class":"denied"' "$work/out.$number" || fail "the refusal left no entry"
    elif grep -q 'audit list' "$block"; then
        grep -Eq '^TIME .* PATH$' "$work/out.$number" || fail "no table"
        grep -Eq ' denied +401 .* /node/hostname$' "$work/out.$number" || fail "the refused call is not in the table"
    elif grep -q -- '--profile dist' "$block"; then
        binary=$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/dist/nodeaudit
        ldd "$binary" 2>&1 | grep -q 'statically linked' || fail "$binary is not static"
        "$binary" --version
    fi
    echo
done
[ -n "${entry_seen-}" ] || fail "no block reads the entry of the first call"
git diff --quiet && [ -z "$(git status --porcelain)" ] || fail "the commands left something in the tree: $(git status --short)"
echo "readme: $((blocks - skipped)) of $blocks blocks ran, $skipped SKIPPED"
