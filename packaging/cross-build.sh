#!/usr/bin/env bash
# Builds the static binaries that ship, without containers: packaging/cross-build.sh TARGET...|all
#
# Leaves target/TARGET/dist/nodeaudit, stripped, and nodeaudit.debug with its symbols beside it (gdb finds them by the build ID), and
# prints the sizes. Needs Debian 12; installs what it lacks. The same can be built with `cross`, in a container: see cross.toml.
#
# No server for Rust toolchains is asked: Debian's compiler builds the standard library along with the rest, zig is compiler and
# linker for C and brings musl for every target. cargo-auditable has the binary hold the list of the crates that it is made of, so that what
# becomes known of them later can be looked up.
set -euo pipefail
cd "$(dirname "$0")/.."

# 64-bit boards; ARMv7 boards; ARMv6 boards (first Raspberry Pi, Zero); RISC-V boards; PCs.
all=(
  aarch64-unknown-linux-musl
  armv7-unknown-linux-musleabihf
  arm-unknown-linux-musleabihf
  riscv64gc-unknown-linux-musl
  x86_64-unknown-linux-musl
)
rust_version=1.96.0
zig_version=0.13.0
zigbuild_version=0.24.1
auditable_version=0.7.4

tools=$PWD/target/ci-tools

install_tools() {
  if ! /usr/bin/rustc --version 2>/dev/null | grep -q "^rustc $rust_version " || [ ! -e /usr/lib/rustlib/src/rust/library ] ||
    ! command -v llvm-objcopy readelf jq >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      rustc-web cargo-web rust-web-src llvm binutils gcc libc6-dev python3-venv git jq >/dev/null
  fi
  if ! /usr/bin/rustc --version | grep -q "^rustc $rust_version "; then
    echo "cross-build.sh: Debian has $(/usr/bin/rustc --version), this was tried with $rust_version: change rust_version here" >&2
    exit 69
  fi
  if ! "$tools/zig/bin/python" -m ziglang version 2>/dev/null | grep -qx "$zig_version"; then
    python3 -m venv "$tools/zig"
    "$tools/zig/bin/pip" install -q "ziglang==$zig_version"
  fi
  .ci/tool cargo-zigbuild "$zigbuild_version" --no-default-features
  .ci/tool cargo-auditable "$auditable_version"
  export CARGO_ZIGBUILD_PYTHON_PATH=$tools/zig/bin/python
}

build() { # TARGET
  local target=$1
  local folder=target/$target/dist
  local cargo_home=${CARGO_HOME:-$HOME/.cargo}
  # Nothing of the machine that builds gets into the binary: the same commit gives the same bytes in any folder.
  local here=$PWD
  # LLVM copies a function into its callers up to a cost of 100 instead of 225: a twentieth of the binary, for 1 to 2 % of a call's
  # instructions.
  local flags=(
    -C link-self-contained=no -C target-feature=+crt-static -C link-arg=-Wl,--build-id=sha1
    -C llvm-args=-inlinedefault-threshold=100
    "--remap-path-prefix=$here=nodeaudit" "--remap-path-prefix=$cargo_home/registry/src=registry"
  )
  # No panic ever passes through C, and no callback of SQLite's panics: its tables for unwinding would be dead weight.
  local no_unwinding="-fno-unwind-tables -fno-asynchronous-unwind-tables"
  local variable=CFLAGS_${target//-/_}
  # Cargo's own variable for flags, with a separator that a path can't hold. The standard library's sorting is short instead
  # of fast (`optimize_for_size`): what is sorted here is not on the way of a request.
  env PATH="$tools/bin:$PATH" RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo RUSTC_BOOTSTRAP=1 \
    CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f' && echo "${flags[*]}")" \
    "$variable=-ffile-prefix-map=$cargo_home/registry/src=registry -ffile-prefix-map=$here=nodeaudit $no_unwinding" \
    CARGO_PROFILE_DIST_DEBUG=line-tables-only CARGO_PROFILE_DIST_STRIP=none \
    cargo-auditable auditable zigbuild --locked --profile dist --target "$target" -Zbuild-std=std,panic_unwind \
    -Zbuild-std-features=panic-unwind,backtrace-trace-only,optimize_for_size --bin nodeaudit

  llvm-objcopy --only-keep-debug "$folder/nodeaudit" "$folder/nodeaudit.debug"
  llvm-objcopy --strip-all --keep-section=.dep-v0 "$folder/nodeaudit" "$folder/nodeaudit.stripped"
  (cd "$folder" && llvm-objcopy --add-gnu-debuglink=nodeaudit.debug nodeaudit.stripped)
  mv "$folder/nodeaudit.stripped" "$folder/nodeaudit"
  check "$target" "$folder/nodeaudit"
}

check() { # TARGET BINARY: static, with the list of its crates; prints its size
  if readelf --dynamic "$2" | grep NEEDED || readelf --program-headers "$2" | grep INTERP; then
    echo "cross-build.sh: $2 needs a dynamic linker" >&2
    exit 70
  fi
  if ! readelf --section-headers --wide "$2" | grep -F .dep-v0 >/dev/null; then
    echo "cross-build.sh: $2 does not say which crates it is made of" >&2
    exit 70
  fi
  printf '%-32s %9d bytes, symbols %d bytes\n' "$1" "$(stat -c %s "$2")" "$(stat -c %s "$2.debug")"
}

[ $# -gt 0 ] || { echo "usage: cross-build.sh all|TARGET...; targets: ${all[*]}" >&2; exit 64; }
[ "$*" != all ] || set -- "${all[@]}"
for target in "$@"; do
  [[ " ${all[*]} " == *" $target "* ]] || { echo "cross-build.sh: no such target: $target (${all[*]})" >&2; exit 64; }
done
install_tools
for target in "$@"; do
  build "$target"
done
