"""Every crate of the lock file has a licence that deny.toml allows. Plain Python: runs where cargo-deny is not.

    python3 .ci/licences.py
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib


def allowed(expression, allow):
    """Whether an SPDX expression can be met by licences of the list; `/` is `OR`, as old manifests write it."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    # "L WITH E" is one licence to the list.
    joined = []
    for token in tokens:
        if token == "WITH" or (joined and joined[-1].endswith(" WITH")):
            joined[-1] += " " + token
        else:
            joined.append(token)

    def either(i):
        value, i = both(i)
        while i < len(joined) and joined[i] == "OR":
            other, i = both(i + 1)
            value = value or other
        return value, i

    def both(i):
        value, i = one(i)
        while i < len(joined) and joined[i] == "AND":
            other, i = one(i + 1)
            value = value and other
        return value, i

    def one(i):
        if joined[i] == "(":
            value, i = either(i + 1)
            return value, i + 1
        return joined[i] in allow, i + 1

    return either(0)[0]


def main():
    assert allowed("(MIT OR X) AND Apache-2.0 WITH Y", {"MIT", "Apache-2.0 WITH Y"})
    assert not allowed("MIT AND X", {"MIT"}) and allowed("X/MIT", {"MIT"})
    allow = set(tomllib.loads(pathlib.Path("deny.toml").read_text())["licenses"]["allow"])
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    packages = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["packages"]
    wrong = [p for p in packages if not p["license"] or not allowed(p["license"], allow)]
    for p in wrong:
        print(f"{p['name']} {p['version']}: found `{p['license']}`, expected one of deny.toml's `allow`", file=sys.stderr)
    print(f"{len(packages)} crates, {len(wrong)} with a licence that deny.toml does not allow")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
