#!/usr/bin/env bash
# Counts the instructions of fixed work (benches/fixed_work.rs) with callgrind, and fails where one is more than 5 % above the
# figure in benches/instructions.txt; BLESS=1 stores what was counted. Instructions do not depend on how busy the machine is, but on
# compiler and libraries: the figures are those of Debian 12, x86-64, and the compiler named in the file.
set -euo pipefail
cd "$(dirname "$0")/.."
stored=benches/instructions.txt
command -v valgrind >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends valgrind libc6-dbg >/dev/null; }
if [ -z "${BLESS:-}" ] && ! grep -qxF "# $(rustc --version)" "$stored"; then
  echo "SKIPPED: $stored has figures of another compiler: $(head -n 1 "$stored")" >&2
  exit
fi
cargo build --release --quiet --example fixed_work
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

count() { # WORK: instructions
  mkdir "$work/$1"
  valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/fixed_work "$work/$1" "$1" 2>&1 |
    awk '/Collected/ { print $NF }'
}
nothing=$(count nothing)
counted=$(for name in store commit page token; do echo "$name $(($(count $name) - nothing))"; done)
if [ -n "${BLESS:-}" ]; then
  printf '# %s\n%s\n' "$(rustc --version)" "$counted" >"$stored"
fi
echo "$counted" | awk '
  NR == FNR { if ($1 != "#") figure[$1] = $2; next }
  !($1 in figure) { printf "%-7s %13d instructions, no figure stored\n", $1, $2; next }
  { change = 100 * ($2 / figure[$1] - 1); printf "%-7s %13d instructions, %+.1f %%\n", $1, $2, change; if (change > 5) slower = 1 }
  END { if (slower) print "more than 5 % above benches/instructions.txt: find out why, or BLESS=1 if it is worth it"; exit slower }
' "$stored" -
