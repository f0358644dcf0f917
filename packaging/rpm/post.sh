# $1 is 1 at the first installation, 2 and more at an upgrade.
systemd-sysusers nodeaudit.conf || :
if [ -d /run/systemd/system ]; then systemctl daemon-reload || :; fi
if [ "$1" -eq 1 ]; then
    systemctl preset nodeaudit.service >/dev/null 2>&1 || :
fi
