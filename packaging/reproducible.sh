#!/usr/bin/env bash
# Shows that one commit gives the same bytes, whoever builds it where and when: packaging/reproducible.sh [TARGET]
#
# Clones HEAD into two folders, builds binary and packages in each, the second with another umask and time zone, and compares
# checksums. TARGET is x86_64-unknown-linux-musl where none is named. Takes two cross-builds; BINARY=FILE compares the packages of that file alone.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-x86_64-unknown-linux-musl}
here=$PWD
[ -z "${BINARY-}" ] || BINARY=$(realpath "$BINARY")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make_in() { # FOLDER: prints the checksums of what is made there
  git clone --quiet "$here" "$1"
  cd "$1"
  # The tools are pinned: both folders use the same.
  mkdir -p "$here/target/ci-tools" target
  ln -s "$here/target/ci-tools" target/ci-tools
  if [ -z "${BINARY-}" ]; then
    packaging/cross-build.sh "$target" >&2
  else
    export BINARY CARGO_TARGET_DIR=$here/target
  fi
  packaging/package.sh all "$target" >&2
  [ -n "${BINARY-}" ] || cp "target/$target/dist/nodeaudit" target/packages
  cd target/packages
  sha256sum -- *
}

(make_in "$work/a") >"$work/first"
(umask 077 && TZ=Asia/Tokyo && export TZ && make_in "$work/another-folder/below") >"$work/second"
if ! diff "$work/first" "$work/second"; then
  echo "reproducible.sh: FAILED: the same commit gave other bytes" >&2
  exit 1
fi
cat "$work/first"
echo "reproducible.sh: the same bytes twice"
