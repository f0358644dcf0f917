#!/bin/sh
# Installs nodeaudit on this system, or into an image that is being built:
#
#   ./install.sh                      on this system: enables and starts the service
#   DESTDIR=/path/to/image ./install.sh   into an image: enables it for the image's first boot, starts nothing
#   ./install.sh --uninstall          stops and removes it; configuration, ring and keys stay
#   ./install.sh --purge              the same, and deletes these too
#
# ENABLE=no leaves the service disabled. Needs a POSIX shell and coreutils or busybox. A configuration that differs from the one
# in the archive is kept; the archive's lies beside it then, as nodeaudit.toml.new. Keys and node ID are never made here, but by the
# agent when it starts for the first time: an image can be cloned.
set -eu
# The agent's user reads what lies here: whatever the caller's umask is, and wherever CDPATH leads.
umask 022
unset CDPATH

here=$(cd "$(dirname "$0")" && pwd)
if [ ! -e "$here/root/usr/bin/nodeaudit" ]; then
    echo "install.sh: there is no $here/root/usr/bin/nodeaudit: run it where the archive was unpacked" >&2
    exit 66
fi
DESTDIR=${DESTDIR:-}
config=/etc/nodeaudit/nodeaudit.toml
wants=/etc/systemd/system/multi-user.target.wants/nodeaudit.service

is_running() { [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; }

files() { (cd "$here/root" && find . -type f | sed 's/^\.//' | LC_ALL=C sort); }

is_yours() { # OURS THEIRS: a link is, wherever it leads. In an image its target is often not there yet.
    [ -L "$2" ] || { [ -e "$2" ] && ! cmp -s "$1" "$2"; }
}

put() { # FILE: in one step, so that no one finds half of it
    mode=644
    [ "$1" != /usr/bin/nodeaudit ] || mode=755
    mkdir -p "$DESTDIR${1%/*}"
    cp "$here/root$1" "$DESTDIR$2.installing"
    chmod "$mode" "$DESTDIR$2.installing"
    mv -f "$DESTDIR$2.installing" "$DESTDIR$2"
}

install_all() {
    files | while read -r file; do
        to=$file
        if [ "$file" = "$config" ] && is_yours "$here/root$file" "$DESTDIR$file"; then
            to=$file.new
            echo "install.sh: $file is yours and stays; this version's is $to"
        fi
        put "$file" "$to"
    done
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers ${DESTDIR:+--root="$DESTDIR"} nodeaudit.conf
    elif ! grep -qs '^nodeaudit:' "$DESTDIR/etc/passwd"; then
        echo "install.sh: there is no systemd-sysusers here: the user nodeaudit is made at the first boot, or by you" >&2
    fi
    if [ "${ENABLE:-yes}" = yes ]; then
        mkdir -p "$DESTDIR${wants%/*}"
        ln -sfn /usr/lib/systemd/system/nodeaudit.service "$DESTDIR$wants"
    fi
    if is_running; then
        systemctl daemon-reload
        if [ "${ENABLE:-yes}" = yes ]; then systemctl restart nodeaudit.service; fi
    fi
}

uninstall() {
    if is_running; then
        systemctl stop nodeaudit.socket nodeaudit.service 2>/dev/null || :
    fi
    rm -f "$DESTDIR$wants" "$DESTDIR/etc/systemd/system/sockets.target.wants/nodeaudit.socket"
    files | while read -r file; do
        [ "$file" = "$config" ] || rm -f "$DESTDIR$file"
    done
    rmdir "$DESTDIR/usr/share/doc/nodeaudit/docs" "$DESTDIR/usr/share/doc/nodeaudit" 2>/dev/null || :
    if is_running; then systemctl daemon-reload; fi
}

case ${1:-} in
"") install_all ;;
--uninstall) uninstall ;;
--purge)
    uninstall
    rm -rf "$DESTDIR/etc/nodeaudit" "$DESTDIR/var/lib/nodeaudit"
    ;;
*)
    echo "install.sh: no such option: $1 (--uninstall, --purge)" >&2
    exit 64
    ;;
esac
