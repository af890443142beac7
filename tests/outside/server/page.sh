#!/usr/bin/env bash
# The web page of `host serve` in headless Chromium: a scan through the page, overlay by pixels, keys, axe-core, tokens, offline.
#
#   tests/outside/server/page.sh HOST BENCH BACKBONE [SHOTS]     HOST has the feature server; BENCH and BACKBONE: see check.sh
#
# Chromium is $CHROMIUM, the system's, or Debian's `chromium`, which is installed where apt reaches. Playwright and axe-core come
# from PyPI ($PYTHON may have them). Screenshots go to SHOTS for people to look at.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
host=$1 bench=$2 backbone=$3 shots=${4:-}
packages=(playwright==1.56.0 axe-playwright-python==0.1.8 pillow==12.0.0)

CHROMIUM=${CHROMIUM:-$(command -v chromium || true)}
if [ -z "$CHROMIUM" ]; then
  install() { DEBIAN_FRONTEND=noninteractive timeout 240 apt-get install -y --no-install-recommends chromium > /dev/null 2>&1; }
  install || { timeout 60 apt-get update > /dev/null 2>&1 && install; } || { echo "skipped: no Chromium, and apt cannot install it"; exit 0; }
  CHROMIUM=$(command -v chromium)
fi
export CHROMIUM PYTHONDONTWRITEBYTECODE=1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python=${PYTHON:-python3}
if ! "$python" -c 'import playwright, axe_playwright_python, PIL' 2> /dev/null; then
  python3 -m venv "$scratch/venv"
  python=$scratch/venv/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 "${packages[@]}" \
    || { echo "skipped: playwright and axe-core cannot be fetched"; exit 0; }
fi
"$python" "$here/page.py" "$host" "$bench" "$backbone" ${shots:+--shots "$shots"}
