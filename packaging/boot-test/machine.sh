# shellcheck shell=bash
# The virtual machine of the boot test: booted, told what to run, switched off. Sourced; wants $pieces and $work.

machine=0 port=0

# Boots with these parameters of the kernel, and returns when the node's shell answers.
boot() { # PARAMETER...
  rm -f "$work"/{shell,monitor}.{in,out}
  mkfifo "$work"/{shell,monitor}.{in,out}
  # Emulated everywhere: on many virtual machines /dev/kvm is there, and guests hang.
  "$pieces/qemu" -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 768 -nodefaults -display none -no-reboot \
    -kernel "$pieces/kernel" -initrd "$pieces/initrd" -append "root=/dev/vda console=ttyS0 panic=-1 $*" \
    -serial "file:$work/console" \
    -drive "file=$work/root.ext4,format=raw,if=virtio,cache=writeback" \
    -drive "file=$work/packages.ext4,format=raw,if=virtio,readonly=on" \
    -drive "file=$work/state.ext4,format=raw,if=virtio,cache=writeback" \
    -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-10.0.2.15:8080" -device virtio-net-pci,netdev=net,romfile= \
    -device virtio-serial-pci -chardev "pipe,id=shell,path=$work/shell" -device virtserialport,chardev=shell,name=shell \
    -chardev "pipe,id=monitor,path=$work/monitor" -mon chardev=monitor,mode=readline </dev/null 2>"$work/qemu.log" &
  machine=$!
  # Both ways in one, so that neither side waits for the other to open it.
  exec 5<>"$work/shell.in" 6<>"$work/shell.out" 7<>"$work/monitor.in" 8<>"$work/monitor.out"
  local answer='' line end=$((SECONDS + 180))
  until read -r -t 1 answer <&6 || ! kill -0 "$machine" 2>/dev/null || [ "$SECONDS" -ge "$end" ]; do :; done
  if [ "$answer" != ready ]; then
    echo "the machine does not boot:" >&2
    tail -n 30 "$work/console" "$work/qemu.log" >&2
    return 1
  fi
  echo 'info usernet' >&7
  while read -r -t 20 line <&8; do
    # TCP[HOST_FORWARD] DESCRIPTOR 127.0.0.1 PORT ...
    case $line in *HOST_FORWARD*) read -r _ _ _ port _ <<<"$line" && return 0 ;; esac
  done
  return 1
}

# Runs a script on the node: prints what it prints, ends as it ends.
guest() { # SCRIPT
  local code output
  base64 -w 0 <<<"$1" >&5
  echo >&5
  read -r -t 180 code output <&6 || { echo "the node does not answer" && return 1; }
  base64 -d <<<"$output"
  return "$code"
}

# Takes the power away.
cut() {
  kill -9 "$machine"
  wait "$machine" 2>/dev/null
  machine=0
}

# Waits until the node has switched itself off.
await_end() {
  local tries
  for ((tries = 0; tries < 900; tries++)); do
    if ! kill -0 "$machine" 2>/dev/null; then
      machine=0
      return 0
    fi
    sleep 0.1
  done
  echo "the node does not go down:"
  tail -n 20 "$work/console"
  return 1
}
