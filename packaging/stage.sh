#!/usr/bin/env bash
# Lays out what every package holds, as it will lie on the node: packaging/stage.sh TARGET BINARY ROOT
#
# The one list of installed files. The .deb, the .rpm and the .tar.gz are made of what stands below ROOT afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$1 binary=$2 root=$3
doc=$root/usr/share/doc/nodeaudit

rm -rf "$root"
put() { install -D -m "$1" "$2" "$root/$3"; } # MODE FILE DESTINATION

put 755 "$binary" usr/bin/nodeaudit
put 644 packaging/nodeaudit.toml etc/nodeaudit/nodeaudit.toml
put 644 systemd/50-nodeaudit.rules usr/share/polkit-1/rules.d/50-nodeaudit.rules
put 644 systemd/nodeaudit.sysusers.conf usr/lib/sysusers.d/nodeaudit.conf
for unit in systemd/*.service systemd/*.socket; do
  [ ! -e "$unit" ] || put 644 "$unit" "usr/lib/systemd/system/${unit##*/}"
done

cargo run --locked --quiet --example manual -- "$root/usr/share"
# Like every man page on Debian; -n leaves out name and time, so that the same page gives the same bytes.
gzip -9n "$root"/usr/share/man/man8/*.8

put 644 README.md usr/share/doc/nodeaudit/README.md
for page in docs/*.md; do
  put 644 "$page" "usr/share/doc/nodeaudit/$page"
done
packaging/third-party.sh "$target" >"$doc/third-party.txt"

# The same modes whatever the builder's umask was.
find "$root" -type d -exec chmod 755 {} +
find "$root" -type f ! -path "$root/usr/bin/*" -exec chmod 644 {} +
