#!/bin/bash
# Boots a Debian image with systemd in a virtual machine, installs the package, and looks at it from outside.
#
#   packaging/boot-test.sh [PACKAGE.deb]
#
# Without a package it makes one. Needs root and Debian packages: curl, dpkg-dev, e2fsprogs, jq, mmdebstrap; qemu and the image are got by
# packaging/boot-test/image and kept in target/boot-test. Prints a line a step and ends with an error where one failed. Ends with 77,
# and says so loudly, where this machine can't. Takes three minutes on an idle machine with two cores once the image is there.
set -uo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/.." || exit 1

for program in curl dpkg-deb jq mke2fs; do
  command -v "$program" >/dev/null || { echo "SKIPPED: the boot test needs $program" >&2 && exit 77; }
done
pieces=$(packaging/boot-test/image target/boot-test)
case $? in
  0) ;;
  77) echo "SKIPPED: the boot test can't run here" >&2 && exit 77 ;;
  *) exit 1 ;;
esac
work=$(mktemp -d target/boot-test/run.XXXXXX) && work=$PWD/$work
. packaging/boot-test/machine.sh
# shellcheck disable=SC2064 # $work is known now
trap 'if [ "$machine" != 0 ]; then cut; fi; rm -rf '"'$work'" EXIT

failed=0
step() { # NAME FUNCTION [ARGUMENT...]
  local name=$1 begun=$SECONDS output
  shift
  # Not in a subshell: a step may boot the machine.
  if "$@" >"$work/said" 2>&1; then
    printf 'ok    %3d s  %s\n' $((SECONDS - begun)) "$name"
    return
  fi
  failed=1
  printf 'FAIL  %3d s  %s\n' $((SECONDS - begun)) "$name"
  sed 's/^/      /' "$work/said"
  if [ "$machine" != 0 ]; then
    guest 'systemctl --no-pager -l status nodeaudit.service nodeaudit.socket; journalctl -u nodeaudit -n 25 --no-pager -o short-monotonic' | sed 's/^/      /'
  fi
}

# A call of the agent: the body goes to the file "body", the headers to "headers", the code to the output.
call() { # METHOD PATH [ARGUMENT...]
  local method=$1 path=$2
  shift 2
  curl -s -m 20 -o "$work/body" -D "$work/headers" -w '%{http_code}' -X "$method" -H "Authorization: Bearer $token" \
    "$@" "http://127.0.0.1:$port$path"
}

expect() { # CODE METHOD PATH [ARGUMENT...]
  local wanted=$1 code
  shift
  code=$(call "$@")
  [ "$code" = "$wanted" ] || { echo "$1 $2: $code instead of $wanted: $(cat "$work/body")" && return 1; }
}

audit_id() { sed -n 's/^audit-id: \([^[:cntrl:]]*\).*/\1/Ip' "$work/headers"; }

# What stands in the entry of an ID.
entry() { # ID FILTER
  expect 200 GET "/audit/$1" && jq -r ".entry | $2" "$work/body"
}

is() { # WHAT IS WANTED
  [ "$2" = "$3" ] || { echo "$1: $2 instead of $3" && return 1; }
}

eventually() { # COMMAND...
  local end=$((SECONDS + 120))
  while [ "$SECONDS" -lt "$end" ]; do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.2
  done
  echo "not seen in two minutes: $*"
  "$@"
}

serves() { expect 200 GET /health/ready; }
active() { guest 'systemctl is-active nodeaudit.service' >/dev/null && serves; }

# Changes without end, from four callers, each refused for what it asks: the IDs of those that were answered as recorded are in
# "answered". A 503 says that its entry may not be there.
start_load() {
  : >"$work/answered"
  loads=()
  local caller code
  for caller in 1 2 3 4; do
    while :; do
      code=$(curl -s -m 5 -o "$work/load.$caller" -D "$work/load-headers.$caller" -w '%{http_code}' -X PUT \
        -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -d '{"timezone": "No/Where"}' \
        "http://127.0.0.1:$port/node/timezone")
      echo $? >>"$work/ends.$caller"
      [ "$code" != 404 ] || sed -n 's/^audit-id: \([^[:cntrl:]]*\).*/\1/Ip' "$work/load-headers.$caller" >>"$work/answered"
    done &
    loads+=($!)
  done
}

answers() { [ "$(wc -l <"$work/answered")" -ge "$1" ]; }

stop_load() {
  kill "${loads[@]}"
  wait "${loads[@]}" 2>/dev/null
  return 0
}

# Every call that was answered has its entry.
nothing_lost() {
  expect 200 GET '/audit/export?format=ndjson' || return
  jq -r .id "$work/body" | sort >"$work/stored"
  local lost
  lost=$(sort -u "$work/answered" | comm -23 - "$work/stored" | wc -l)
  echo "$(wc -l <"$work/answered") answered, $lost lost"
  [ "$lost" = 0 ]
}

issue_token() {
  token=$(guest 'runuser -u nodeaudit -- nodeaudit token issue --subject boot@test --role admin --ttl 1h') ||
    { echo "$token" && return 1; }
}

# ---------------------------------------------------------------------------------------------------------- the steps

install_package() {
  guest '
    set -e
    # State has a disk of its own, as on an image that is replaced whole.
    mkdir -p /var/lib/nodeaudit
    echo "/dev/vdc /var/lib/nodeaudit ext4 nofail 0 2" >>/etc/fstab
    # As every image whose root is read-only has it: systemd makes the sandbox of PrivateDevices= there.
    echo "tmpfs /tmp tmpfs mode=1777,nosuid,nodev 0 0" >>/etc/fstab
    systemctl daemon-reload
    mount /var/lib/nodeaudit && mount /tmp
    # As an operator prepares a node.
    mkdir -p /etc/nodeaudit/conf.d /etc/systemd/system/nodeaudit.service.d /etc/systemd/system/nodeaudit.socket.d
    printf "[server]\nlisten = \"0.0.0.0:8080\"\nplaintext = \"allow\"\n" >/etc/nodeaudit/conf.d/10-node.toml
    printf "[Service]\nIPAddressAllow=10.0.2.0/24\n" >/etc/systemd/system/nodeaudit.service.d/net.conf
    printf "[Socket]\nListenStream=\nListenStream=0.0.0.0:8080\nIPAddressAllow=10.0.2.0/24\n" >/etc/systemd/system/nodeaudit.socket.d/net.conf
    printf "[Service]\nExecStart=/bin/sleep infinity\n" >/etc/systemd/system/sleeper.service
    mkdir -p /etc/polkit-1/rules.d
    echo "var nodeaudit_units = [\"sleeper.service\"];" >/etc/polkit-1/rules.d/40-nodeaudit-units.rules
    systemctl daemon-reload
    systemctl start sleeper.service
    mkdir -p /packages
    mount -o ro /dev/vdb /packages
    DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /packages/first.deb'
}

is_active() {
  eventually active && guest 'systemctl show nodeaudit.service -p Type -p StatusText -p User -p NRestarts' || return
  is Type "$(guest 'systemctl show nodeaudit.service -P Type')" notify &&
    is user "$(guest 'stat -c %U /proc/$(systemctl show nodeaudit.service -P MainPID)')" nodeaudit &&
    guest 'systemctl show nodeaudit.service -P StatusText | grep .'
}

a_token_works() {
  issue_token && expect 200 GET /node/hostname && is hostname "$(jq -r .hostname "$work/body")" node-of-the-image
}

hostname_changes() {
  expect 200 PUT /node/hostname -H 'Content-Type: application/json' -d '{"hostname": "node-7"}' || return
  is "on the node" "$(guest 'uname -n; cat /etc/hostname' | xargs)" "node-7 node-7" &&
    is "in the ring" "$(entry "$(audit_id)" '"\(.operation_id) \(.response_code)"')" "PutNodeHostname 200"
}

a_service_restarts() {
  local before
  before=$(guest 'systemctl show sleeper -P MainPID')
  expect 202 POST /node/service/sleeper/restart || return
  eventually guest "[ \$(systemctl show sleeper -P MainPID) != $before ]"
}

an_unlisted_service_does_not() {
  local code
  code=$(call POST /node/service/systemd-networkd/restart)
  { [ "$code" = 503 ] && grep -q 'polkit does not let' "$work/body"; } || { echo "$code: $(cat "$work/body")" && return 1; }
}

# All operations of /node that change nothing for good, by the agent's own description.
every_endpoint_works() {
  declare -A known=(
    ["PUT /node/hostname"]='200 {"hostname": "node-7"}' ["PUT /node/timezone"]='200 {"timezone": "Europe/Berlin"}'
    ["POST /node/service/{name}/start"]=202 ["POST /node/service/{name}/stop"]=202
    ["POST /node/service/{name}/restart"]=202
    ["POST /node/power/reboot"]=later ["POST /node/power/shutdown"]=later)
  local operation method path code body fine=0
  expect 200 GET /openapi.json || return
  while read -r operation; do
    read -r method path <<<"$operation"
    read -r code body <<<"${known[$operation]-}"
    [ "$code" != later ] || continue
    [ -n "$code" ] || { [ "$method" = GET ] && code=200; } || { echo "$operation is not known to the boot test" && fine=1 && continue; }
    case $path in *interface/*) path=${path/\{name\}/lo} ;; *) path=${path/\{name\}/sleeper} ;; esac
    if [ -n "$body" ]; then
      expect "$code" "$method" "$path" -H 'Content-Type: application/json' -d "$body" || fine=1
    else
      expect "$code" "$method" "$path" || fine=1
    fi
  done < <(jq -r '.paths | to_entries[] | .key as $path | .value | keys[] | ascii_upcase + " " + $path' "$work/body" | grep ' /node/')
  is "time zone" "$(guest 'realpath /etc/localtime')" /usr/share/zoneinfo/Europe/Berlin || fine=1
  return $fine
}

journal_is_clean() {
  # Priorities, and no times of the agent's own.
  is priorities "$(guest 'journalctl -u nodeaudit -o json --output-fields=PRIORITY,MESSAGE _COMM=nodeaudit | grep -c "\"PRIORITY\":\"6\""' | awk '{print ($1 > 0)}')" 1 &&
    ! guest 'journalctl -u nodeaudit -o cat _COMM=nodeaudit | grep -E "^(<[0-9]>|\[?20[0-9][0-9]-)"'
}

survives_kill() {
  start_load
  eventually answers 20 || return
  guest 'systemctl kill -s KILL nodeaudit.service'
  local before
  before=$(wc -l <"$work/answered")
  eventually answers $((before + 20))
  stop_load
  is restarts "$(guest 'systemctl show nodeaudit.service -P NRestarts')" 1 && nothing_lost
}

upgrades() {
  local epoch
  # The machine can be reached before the agent serves.
  eventually active && expect 200 GET /audit/status && epoch=$(jq -r .epoch "$work/body") || return
  guest 'echo "# kept by the operator" >>/etc/nodeaudit/nodeaudit.toml
    DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /packages/second.deb' || return
  eventually active && guest 'grep -q "kept by the operator" /etc/nodeaudit/nodeaudit.toml' &&
    is version "$(guest "dpkg-query -W -f '\${Version}' nodeaudit")" "$second" && expect 200 GET /audit/status &&
    is "ring's epoch" "$(jq -r .epoch "$work/body")" "$epoch" && nothing_lost
}

restarts_without_refusal() {
  guest 'systemctl stop nodeaudit.service && systemctl start nodeaudit.socket nodeaudit.service' || return
  eventually active
  rm -f "$work"/ends.*
  start_load
  eventually answers 20 || return
  local round before
  for round in 1 2 3; do
    guest 'systemctl restart nodeaudit.service' || return
    before=$(wc -l <"$work/answered")
    eventually answers $((before + 20))
  done
  stop_load
  # curl's exit codes; those of the callers that were stopped in the middle are not among them.
  sort "$work"/ends.* | uniq -c
  ! grep -qx 7 "$work"/ends.* && nothing_lost
}

watchdog_bites() {
  guest 'mkdir -p /run/systemd/system/nodeaudit.service.d
    printf "[Service]\nWatchdogSec=5s\nTimeoutAbortSec=2s\n" >/run/systemd/system/nodeaudit.service.d/watchdog.conf
    systemctl daemon-reload && systemctl restart nodeaudit.service' || return
  eventually active
  start_load
  eventually answers 20
  guest 'fsfreeze -f /var/lib/nodeaudit'
  local bitten=0
  eventually guest 'journalctl -b -u nodeaudit.service | grep "Watchdog timeout"' || bitten=1
  guest 'fsfreeze -u /var/lib/nodeaudit'
  stop_load
  guest 'rm /run/systemd/system/nodeaudit.service.d/watchdog.conf; systemctl daemon-reload'
  eventually active && nothing_lost && return $bitten
}

# As while someone is logged in, which polkit has an action of its own for.
log_in() {
  guest 'systemd-run --quiet -p User=root -p PAMName=login -E XDG_SESSION_CLASS=user --unit=somebody sleep infinity' &&
    eventually guest 'loginctl show-session -P Class $(loginctl list-sessions --no-legend | awk "{ print \$1 }") | grep -qx user'
}

reloads() {
  guest 'systemctl reload nodeaudit.service && echo "server.listen = 1" >/etc/nodeaudit/conf.d/20-wrong.toml' || return
  local failed=0
  guest '! systemctl reload nodeaudit.service' || failed=1
  guest 'rm /etc/nodeaudit/conf.d/20-wrong.toml' && serves && expect 200 GET /audit/status || failed=1
  is "reloads and refused" "$(jq -r '.configuration | "\(.reloads) \(.refused)"' "$work/body")" "1 0" || failed=1
  return $failed
}

reboots() {
  log_in && expect 202 POST /node/power/reboot || return
  rebooted_by=$(audit_id)
  await_end && boot && eventually active && is "its entry" "$(entry "$rebooted_by" '"\(.operation_id) \(.response_code)"')" "PostNodePowerReboot 202"
}

survives_power_cut() {
  start_load
  eventually answers 100 || return
  cut
  stop_load
  # Only the state can be written from here on; systemd would mount the root again as fstab says.
  boot ro systemd.volatile=state systemd.mask=systemd-remount-fs.service && eventually active && nothing_lost
}

works_read_only() {
  guest 'for folder in /usr /etc; do ! touch "$folder/written" 2>/dev/null || { echo "$folder can be written"; exit 1; }; done' && expect 200 GET /node/status &&
    expect 404 PUT /node/timezone -H 'Content-Type: application/json' -d '{"timezone": "No/Where"}' &&
    guest 'systemctl restart nodeaudit.service' && eventually active
}

shuts_down() {
  expect 202 POST /node/power/shutdown && await_end
}

a_clone_is_another_node() {
  local epoch
  # The machine can be reached before the agent serves.
  eventually active && expect 200 GET /audit/status && epoch=$(jq -r .epoch "$work/body") || return
  local key='sha256sum </var/lib/nodeaudit/token.key' before
  before=$(guest "$key")
  guest 'systemctl stop nodeaudit.socket nodeaudit.service && umount /var/lib/nodeaudit && sed -i /nodeaudit/d /etc/fstab &&
    [ -z "$(ls /var/lib/nodeaudit)" ] && systemctl daemon-reload && systemctl start nodeaudit.service' || return
  eventually active
  is "a new key" "$(guest "[ \"\$($key)\" != '$before' ] && echo yes")" yes && is "the old token" "$(call GET /audit/status)" 401 &&
    issue_token && expect 200 GET /audit/status && ! is "the ring's epoch" "$(jq -r .epoch "$work/body")" "$epoch"
}

removal_keeps_state() {
  guest 'dpkg -r nodeaudit && test -e /var/lib/nodeaudit/ring.sqlite && test -e /etc/nodeaudit/nodeaudit.toml &&
    ! systemctl is-active nodeaudit.service'
}

purge_leaves_nothing() {
  guest 'rm -r /etc/systemd/system/nodeaudit.* /etc/polkit-1/rules.d/40-nodeaudit-units.rules
    dpkg -P nodeaudit && systemctl daemon-reload || exit 1
    left=$(find / -xdev -name "*nodeaudit*" ! -path "/proc/*" ! -path "/var/lib/systemd/*" ! -path "/var/log/*"; dpkg-query -W nodeaudit 2>/dev/null)
    echo "$left"
    [ -z "$left" ] && ! systemctl cat nodeaudit.service'
}

# ---------------------------------------------------------------------------------------------------------- the run

first_deb=${1-}
if [ -z "$first_deb" ]; then
  first_deb=$(packaging/package.sh deb | tail -n 1) || exit 1
fi
# The same once more, under a newer version: what matters is how it is installed.
mkdir "$work/debs"
cp "$first_deb" "$work/debs/first.deb"
dpkg-deb -R "$first_deb" "$work/unpacked"
second=$(dpkg-deb -f "$first_deb" Version)+newer
sed -i "s/^Version: .*/Version: $second/" "$work/unpacked/DEBIAN/control"
dpkg-deb -b --root-owner-group -Znone "$work/unpacked" "$work/debs/second.deb" >/dev/null || exit 1
mke2fs -q -t ext4 -d "$work/debs" "$work/packages.ext4" 128M &>/dev/null
mke2fs -q -t ext4 "$work/state.ext4" 128M &>/dev/null
cp --sparse=always --reflink=auto "$pieces/root.ext4" "$work/root.ext4"
rm -r "$work/debs" "$work/unpacked"

token=
step "the image boots" boot rw
[ "$failed" = 0 ] || exit 1
step "the package installs" install_package
step "the service is active, and says so itself" is_active
step "a token works" a_token_works
step "the host name is changed on the node and in the ring" hostname_changes
step "a service on the operator's list is restarted" a_service_restarts
step "a service that is not on it is not" an_unlisted_service_does_not
step "every endpoint of the node works in the sandbox" every_endpoint_works
step "the journal has priorities and no second time" journal_is_clean
step "a reload reads the configuration, and fails with one that is wrong" reloads
step "killed, it starts again, and nothing is lost" survives_kill
step "an upgrade keeps configuration and ring" upgrades
step "restarted under load through the socket, it refuses nobody" restarts_without_refusal
step "the watchdog bites when the store hangs" watchdog_bites
step "it reboots the node while someone is logged in, and knows it afterwards" reboots
step "the power is cut under load, and nothing that was answered is lost" survives_power_cut
step "it works on a read-only root" works_read_only
step "it shuts the node down" shuts_down
step "the image boots again" boot rw
step "a clone of the image makes a key and a ring of its own" a_clone_is_another_node
step "a removal keeps the state" removal_keeps_state
step "a purge leaves nothing" purge_leaves_nothing
if [ "$failed" = 0 ]; then echo "all steps green in $SECONDS s"; else echo "steps failed" >&2; fi
exit "$failed"
