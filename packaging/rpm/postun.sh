# $1 is 1 when another version has taken this one's place.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    if [ "$1" -ge 1 ]; then systemctl try-restart nodeaudit.service >/dev/null 2>&1 || :; fi
fi
