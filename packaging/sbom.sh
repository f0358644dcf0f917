#!/usr/bin/env bash
# The bill of materials of the agent: `packaging/sbom.sh FILE [TARGET]` writes CycloneDX 1.5 as JSON, of what is built for TARGET and of
# nothing else. With SOURCE_DATE_EPOCH the same tree gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:?usage: packaging/sbom.sh FILE [TARGET]}
target=${2:-$(rustc -vV | sed -n 's/^host: //p')}
.ci/tool cargo-cyclonedx 0.5.9
mkdir -p "$(dirname "$out")"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
PATH=$PWD/target/ci-tools/bin:$PATH cargo cyclonedx --format json --spec-version 1.5 --target "$target" --no-build-deps --override-filename nodeaudit-sbom -q
mv nodeaudit-sbom.json "$out"
