#!/usr/bin/env bash
# Prints which crates are in the binary for TARGET, under which licences, and the texts of these: packaging/third-party.sh TARGET
#
# A text that several crates share is printed once. What the licences are allowed to be is checked by `cargo deny` (deny.toml).
set -euo pipefail
cd "$(dirname "$0")/.."

target=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is linked: normal dependencies, without macros and what only builds. name, version, licence, folder.
cargo tree --locked --edges normal,no-proc-macro --target "$target" --prefix none --format '{p}' |
  awk '{ sub(/^v/, "", $2); print $1, $2 }' | sort -u >"$work/linked"
cargo metadata --locked --format-version 1 --filter-platform "$target" |
  jq -r '.packages[] | [.name, .version, .license // "see its text", (.manifest_path | sub("/Cargo.toml$"; ""))] | @tsv' |
  sort -u >"$work/known"

echo "nodeaudit is under the Apache License 2.0. The binary holds parts of others:"
echo
mkdir "$work/texts"
while read -r name version; do
  [ "$name" != nodeaudit ] || continue
  IFS=$'\t' read -r licence folder < <(awk -F'\t' -v n="$name" -v v="$version" '$1 == n && $2 == v { print $3 "\t" $4 }' "$work/known")
  echo "  $name $version: $licence"
  find "$folder" -maxdepth 1 -type f -iregex '.*/\(licen[cs]e\|copying\|notice\|unlicense\|copyright\)[^/]*' | LC_ALL=C sort |
    while read -r text; do
      sum=$(sha256sum <"$text" | cut -d ' ' -f 1)
      [ -e "$work/texts/$sum" ] || cp "$text" "$work/texts/$sum"
      echo "$name" >>"$work/texts/$sum.of"
    done
done <"$work/linked"
cat <<'EOF'
  SQLite, in libsqlite3-sys: in the public domain
  the Rust standard library: MIT OR Apache-2.0
  musl libc, where the binary is linked with it: MIT, Copyright (C) 2005-2020 Rich Felker, et al.
EOF
# Sorted by the first crate that has the text.
for of in "$work"/texts/*.of; do
  printf '%s\t%s\n' "$(paste -sd ' ' "$of")" "${of%.of}"
done | LC_ALL=C sort | while IFS=$'\t' read -r crates text; do
  printf '\n%s\n%s\n\n' "----------------------------------------------------------------------" "$(fold -s -w 120 <<<"$crates:")"
  tr -d '\r' <"$text"
done
