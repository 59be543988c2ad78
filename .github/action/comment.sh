#!/usr/bin/env bash
# One comment a pull request: the former one is replaced. It is found by its first line.
set -euo pipefail
body="$(mktemp)"
head -c 60000 "$MARKDOWN" >"$body"
comments="repos/$GITHUB_REPOSITORY/issues"
former="$(gh api --paginate "$comments/$PULL_REQUEST/comments" \
    --jq '.[] | select(.body | startswith("<!-- model-auditor -->")) | .id' | head -n 1)"
if [ -n "$former" ]; then
    gh api --method PATCH "$comments/comments/$former" --field "body=@$body" --silent
else
    gh api --method POST "$comments/$PULL_REQUEST/comments" --field "body=@$body" --silent
fi
