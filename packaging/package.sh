#!/usr/bin/env bash
# Makes packages: packaging/package.sh deb|rpm|tar|all [TARGET]
#
# TARGET is x86_64-unknown-linux-musl where none is named. It packs target/TARGET/dist/nodeaudit, which
# packaging/cross-build.sh makes; BINARY=FILE packs another one, VERSION=1.2.3 gives the packages another version. They are
# put into target/packages. The same commit and the same binary give the same bytes, in any folder and at any time
# (packaging/reproducible.sh).
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."

deb_tool=3.8.0
rpm_tool=0.21.1

kind=${1:?deb, rpm, tar or all}
target=${2:-x86_64-unknown-linux-musl}
out=target/packages
root=$out/root
version=${VERSION:-$(cargo metadata --locked --no-deps --format-version 1 | jq -r '.packages[] | select(.name == "nodeaudit").version')}
# Files are as old as the commit. Outside a checkout the tools' own default holds.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
export PATH=$PWD/target/ci-tools/bin:$PATH

binary=${BINARY:-target/$target/dist/nodeaudit}
if [ -z "${BINARY-}" ] && [ ! -e "$binary" ]; then
  packaging/cross-build.sh "$target"
fi

deb() {
  .ci/tool cargo-deb "$deb_tool"
  cargo-deb deb --no-build --no-strip --locked --target "$target" --deb-version "$version-1" --output "$out/"
}

rpm() {
  .ci/tool cargo-generate-rpm "$rpm_tool"
  local arch=${target%%-*}
  case $arch in arm) arch=armv6hl ;; armv7) arch=armv7hl ;; riscv64gc) arch=riscv64 ;; esac
  cargo-generate-rpm generate-rpm --arch "$arch" --auto-req disabled --source-date "$SOURCE_DATE_EPOCH" \
    --set-metadata "version = \"$version\"" --output "$out/nodeaudit-$version-1.$arch.rpm"
  echo "$PWD/$out/nodeaudit-$version-1.$arch.rpm"
}

tar() {
  local name=nodeaudit-$version-$target
  rm -rf "${out:?}/$name"
  mkdir "$out/$name"
  cp -r "$root" "$out/$name/root"
  install -m 755 packaging/tar/install.sh "$out/$name/install.sh"
  install -m 644 LICENSE "$out/$name/LICENSE"
  command tar --create --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --directory "$out" "$name" | gzip -9n >"$out/$name.tar.gz"
  rm -rf "${out:?}/$name"
  echo "$PWD/$out/$name.tar.gz"
}

mkdir -p "$out"
packaging/stage.sh "$target" "$binary" "$root"
case $kind in
  deb | rpm | tar) "$kind" ;;
  all)
    # Not joined by `&&`, within which a command that fails would not end the script.
    deb
    rpm
    tar
    ;;
  *)
    echo "package.sh: no such kind: $kind (deb, rpm, tar, all)" >&2
    exit 64
    ;;
esac
rm -rf "$root"
