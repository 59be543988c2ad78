#!/usr/bin/env bash
# The version asked for, else the one this action is a checkout of.
set -euo pipefail
if [ -n "${INPUT_VERSION:-}" ]; then
    python -m pip install --quiet "model-auditor==$INPUT_VERSION"
else
    python -m pip install --quiet "$GITHUB_ACTION_PATH"
fi
