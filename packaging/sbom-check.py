#!/usr/bin/env python3
"""Checks that a bill of materials lists all crates that a binary says it is made of: `sbom-check.py BINARY FILE`.

The binary says it in its section .dep-v0, which `cargo auditable` puts there.
"""

import json
import subprocess
import sys
import zlib

binary, bill = sys.argv[1:]
section = subprocess.run(
    ["objcopy", "--dump-section", ".dep-v0=/dev/stdout", binary, "/dev/null"], check=True, capture_output=True
).stdout
crates = {(crate["name"], crate["version"]) for crate in json.loads(zlib.decompress(section))["packages"] if crate.get("kind") != "build"}
with open(bill) as file:
    listed = json.load(file)
components = [*listed["components"], listed["metadata"]["component"]]
named = {(component["name"], component["version"]) for component in components}
if listed["bomFormat"] != "CycloneDX" or crates - named:
    sys.exit(f"{bill} lacks {sorted(crates - named)}")
print(f"{len(crates)} crates in the binary, {len(named)} in the bill")
