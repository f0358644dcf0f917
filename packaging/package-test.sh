#!/usr/bin/env bash
# Installs, upgrades, removes and purges the packages as on a node: packaging/package-test.sh
#
# Needs root, and target/x86_64-unknown-linux-musl/dist/nodeaudit or BINARY=FILE. Works in a copy-on-write copy of this Debian
# system, so nothing here is changed; without network and terminal, so a maintainer script that fetches or asks fails. There is no
# systemd in there: what it makes of the service, the boot test shows.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "package-test.sh: FAILED: $*" >&2
  exit 1
}
step() { echo "package-test.sh: $*"; }

if [ "$(id -u)" != 0 ]; then
  echo "SKIPPED: package-test.sh needs root" >&2
  exit 0
fi
if [ "${1-}" != within ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  for version in 0.1.0 0.1.1; do
    VERSION=$version packaging/package.sh deb | xargs -I FILE cp FILE "$work/$version.deb"
  done
  VERSION=0.1.0 packaging/package.sh tar | xargs -I FILE cp FILE "$work/nodeaudit.tar.gz"
  lintian --fail-on error,warning "$work/0.1.0.deb"
  unshare --mount bash "$0" within "$work" </dev/null
  exit
fi

# A copy of this system whose changes stay in memory.
work=$2
layers=$(mktemp -d)
mount -t tmpfs layers "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$layers/root"
root=$layers/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root/packages"
cp "$work"/*.deb "$root/packages"
agent=
finish() {
  [ -z "$agent" ] || kill "$agent" 2>/dev/null || :
  wait
  umount --recursive --lazy "$layers"
  rmdir "$layers"
}
trap finish EXIT

offline() { unshare --net chroot "$root" "$@" >/dev/null; }
as_agent=(setpriv --reuid nodeaudit --regid nodeaudit --init-groups)

start() { # as the unit does: with a state folder, and as the agent's user
  chroot "$root" install -d -m 700 -o nodeaudit -g nodeaudit /var/lib/nodeaudit
  # Not through a function, whose process would be a shell's: what is killed is the agent.
  chroot "$root" "${as_agent[@]}" /usr/bin/nodeaudit serve --listen 127.0.0.1:0 2>"$layers/log" &
  agent=$!
  for _ in $(seq 300); do
    url=$(sed -n 's/.*listening on \(http[^,]*\),.*/\1/p' "$layers/log")
    [ -z "$url" ] || return 0
    sleep 0.1
  done
  cat "$layers/log" >&2
  fail "the agent does not start"
}
stop() {
  kill "$agent"
  wait "$agent" || fail "the agent ended with an error"
  agent=
}
entries() {
  local token
  token=$(chroot "$root" "${as_agent[@]}" nodeaudit token issue --subject test --role auditor --ttl 5m)
  curl -sf -H "Authorization: Bearer $token" "$url/audit?limit=100" | jq .total_items
}
are_there() { local file; for file in "$@"; do [ -e "$root$file" ] || fail "there is no $file"; done; }
are_gone() { local file; for file in "$@"; do [ ! -e "$root$file" ] || fail "$file is still there"; done; }
own=(/etc/nodeaudit/nodeaudit.toml /var/lib/nodeaudit/ring.sqlite /var/lib/nodeaudit/token.key)

step "the .deb is installed, and its agent serves"
offline dpkg --install /packages/0.1.0.deb
are_gone /var/lib/nodeaudit/token.key
are_there /usr/share/man/man8/nodeaudit.8.gz /usr/share/bash-completion/completions/nodeaudit
[ -L "$root/etc/systemd/system/multi-user.target.wants/nodeaudit.service" ] || fail "the service is not enabled"
start
curl -s -o /dev/null "$url/node/hostname"
[ "$(entries)" = 1 ] || fail "the call left no entry"
stop

step "an upgrade keeps configuration and ring"
echo '# mine' >>"$root/etc/nodeaudit/nodeaudit.toml"
offline dpkg --install /packages/0.1.1.deb
[ "$(chroot "$root" dpkg-query -Wf '${Version}' nodeaudit)" = 0.1.1-1 ] || fail "it is not the new version"
[ "$(tail -n 1 "$root/etc/nodeaudit/nodeaudit.toml")" = "# mine" ] || fail "the configuration is not kept"
start
[ "$(entries)" = 2 ] || fail "the ring is not kept"
stop

step "a removal keeps them too, a purge does not"
mkdir -p "$root/etc/systemd/system/sockets.target.wants"
ln -s /usr/lib/systemd/system/nodeaudit.socket "$root/etc/systemd/system/sockets.target.wants/"
offline dpkg --remove nodeaudit
are_gone /usr/bin/nodeaudit /usr/lib/systemd/system/nodeaudit.service
are_there "${own[@]}"
offline dpkg --purge nodeaudit
are_gone "${own[@]}" /etc/nodeaudit /var/lib/nodeaudit
# What is left in the upper layer as a character device is the mark of a file that was removed.
left=$(find "$layers/upper" -path "$layers/upper/packages" -prune -o -name '*nodeaudit*' ! -type c -print)
[ -z "$left" ] || fail "a purge leaves $left"

step "the archive is installed into an image, twice, and removed again"
image=$layers/image
mkdir "$layers/archive" "$image"
tar -xf "$work/nodeaudit.tar.gz" -C "$layers/archive" --strip-components 1
(umask 077 && DESTDIR=$image "$layers/archive/install.sh")
closed=$(find "$image/etc" "$image/usr" -type d ! -perm -055 -print)
[ -z "$closed" ] || fail "the umask of who installs closes to the agent's user: $closed"
echo '# mine' >>"$image/etc/nodeaudit/nodeaudit.toml"
DESTDIR=$image "$layers/archive/install.sh"
[ "$(tail -n 1 "$image/etc/nodeaudit/nodeaudit.toml")" = "# mine" ] || fail "install.sh replaces the configuration"
[ -e "$image/etc/nodeaudit/nodeaudit.toml.new" ] || fail "install.sh does not lay the new configuration beside it"
grep -q '^nodeaudit:' "$image/etc/passwd" || fail "the image has no user for the agent"
[ ! -e "$image/var/lib/nodeaudit" ] || fail "an image holds state, which all its clones would share"
[ "$(readlink "$image/etc/systemd/system/multi-user.target.wants/nodeaudit.service")" = /usr/lib/systemd/system/nodeaudit.service ] ||
  fail "the service is not enabled in the image"
mv "$image/etc/nodeaudit/nodeaudit.toml" "$image/etc/nodeaudit/kept.toml"
ln -s /data/nodeaudit.toml "$image/etc/nodeaudit/nodeaudit.toml"
DESTDIR=$image "$layers/archive/install.sh"
[ -L "$image/etc/nodeaudit/nodeaudit.toml" ] || fail "install.sh replaces a configuration that is a link"
mv -f "$image/etc/nodeaudit/kept.toml" "$image/etc/nodeaudit/nodeaudit.toml"
DESTDIR=$image "$layers/archive/install.sh" --uninstall
[ -e "$image/etc/nodeaudit/nodeaudit.toml" ] || fail "--uninstall deletes the configuration"
[ ! -e "$image/usr/bin/nodeaudit" ] || fail "--uninstall leaves the binary"
DESTDIR=$image "$layers/archive/install.sh" --purge
left=$(find "$image" -name '*nodeaudit*')
[ -z "$left" ] || fail "install.sh --purge leaves $left"

echo "package-test.sh: 4 passed, 0 failed"
