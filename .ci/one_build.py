"""One build serves the README's two commands: `cargo build` compiles what `cargo test --workspace` needs of it.

    python3 .ci/one_build.py

Cargo compiles a crate again where another set of packages asks for other features of it, and then everything above it.
Compares the two commands' unit graphs, which stable cargo shows under RUSTC_BOOTSTRAP=1; compiles nothing.
"""

import json
import os
import subprocess
import sys


def units(*command):
    """Features of each crate that is built, by package, kind and platform."""
    run = subprocess.run(
        ["cargo", *command, "--release", "--unit-graph", "-Z", "unstable-options"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "RUSTC_BOOTSTRAP": "1"},
    )
    if run.returncode != 0:
        print(f"skipped: cargo shows no unit graph: {run.stderr.strip().splitlines()[-1]}")
        sys.exit(0)
    found = {}
    for unit in json.loads(run.stdout)["units"]:
        if unit["mode"] == "build":
            key = (unit["pkg_id"].rsplit("/", 1)[-1], unit["target"]["kind"][0], str(unit["platform"]))
            found.setdefault(key, set()).add(tuple(sorted(unit["features"])))
    return found


def main():
    build, test, nested = units("build"), units("test", "--workspace"), units("build", "--workspace")
    wrong = 0
    for name, first in [("cargo build", build), ("cargo build --workspace", nested)]:
        for key in sorted(first.keys() & test.keys()):
            if first[key] != test[key]:
                wrong += 1
                has, wants = (sorted(set().union(*side[key])) for side in (first, test))
                print(f"{key[0]} ({key[1]}): {name} asks for {has}, cargo test for {wants}", file=sys.stderr)
    if wrong:
        sys.exit("cargo test would compile these and all above them again: ask for the same features in tests/Cargo.toml")
    print(f"{len(build.keys() & test.keys())} crates are built once for both commands")


if __name__ == "__main__":
    main()
