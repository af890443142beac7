#!/usr/bin/env bash
# Parses examples/deploy/nextflow/main.nf by reftrace 0.6.0, a linter of Nextflow pipelines from PyPI: what it finds is what docs/batch.md
# says, and a file with a brace too many is refused. Nextflow itself is a download that no package has.
#   tests/outside/nextflow.sh [PYTHON]      PYTHON has reftrace; without it an environment is made
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${1:-}
if [ -z "$python" ]; then
  python3 -m venv "$work/env"
  python=$work/env/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 reftrace==0.6.0 || {
    echo "skipped: reftrace cannot be fetched"
    exit 0
  }
fi
sed 's/^process SHARD {/process SHARD {{/' "$root/examples/deploy/nextflow/main.nf" > "$work/damaged.nf"
"$python" - "$root/examples/deploy/nextflow/main.nf" "$work/damaged.nf" << 'END'
import sys

from reftrace import Module, ParseError

parsed = Module.from_file(sys.argv[1])
assert not isinstance(parsed, ParseError), parsed.error
found = parsed.to_dict()
names = [process["name"] for process in found["processes"]]
assert found["dsl_version"] == 2 and names == ["LIST", "SHARD", "MERGE"] and len(found["workflows"]) == 1, found
assert isinstance(Module.from_file(sys.argv[2]), ParseError), "a brace too many was taken"
print("passed: DSL 2, processes", *names)
END
