#!/usr/bin/env bash
# Scan the models asked for, or those that changed; write JSON, SARIF and Markdown; never fail here:
# the gate step does, after upload and comment.
set -euo pipefail
shopt -s globstar nullglob

models=()
if [ -n "${INPUT_MODELS:-}" ]; then
    IFS=""
    while read -r pattern; do
        [ -n "$pattern" ] || continue
        # shellcheck disable=SC2206 # a glob; IFS is empty here, so spaces stay
        matched=($pattern)
        if [ "${#matched[@]}" = 0 ]; then
            matched=("$pattern") # audit says that it does not exist
        fi
        models+=("${matched[@]}")
    done <<<"$INPUT_MODELS"
    unset IFS
else
    kinds=('*.onnx' '*.pt' '*.pth' '*.pt2' '*.torchscript' '*.ts')
    if [ -n "${BASE_SHA:-}" ] && git cat-file -e "$BASE_SHA^{commit}" 2>/dev/null; then
        listing=(git diff --name-only --diff-filter=d -z "$BASE_SHA" HEAD --)
    else
        echo "The base commit is not here (use fetch-depth: 0): all tracked models are scanned." >&2
        listing=(git ls-files -z --)
    fi
    while IFS= read -r -d '' path; do models+=("$path"); done < <("${listing[@]}" "${kinds[@]}")
fi
if [ "${#models[@]}" = 0 ]; then
    echo "No model file changed."
    exit 0
fi

arguments=(--json --profile "${INPUT_PROFILE:-full}")
[ -z "${INPUT_DATA:-}" ] || arguments+=(--data "$INPUT_DATA")
[ -z "${INPUT_FAIL_ON:-}" ] || arguments+=(--fail-on "$INPUT_FAIL_ON")
[ -z "${INPUT_CONFIG:-}" ] || arguments+=(--config "$INPUT_CONFIG")

folder="${RUNNER_TEMP:-/tmp}/model-audit"
mkdir -p "$folder"
code=0
audit scan "${arguments[@]}" --out "$folder/reports" -- "${models[@]}" >"$folder/report.json" || code=$?
if [ -s "$folder/report.json" ]; then
    audit show "$folder/report.json" --format sarif --output "$folder/report.sarif"
    audit show "$folder/report.json" --format markdown --output "$folder/report.md"
    head -c 900000 "$folder/report.md" >>"$GITHUB_STEP_SUMMARY"
    {
        echo "report=$folder/report.json"
        echo "sarif=$folder/report.sarif"
        echo "markdown=$folder/report.md"
    } >>"$GITHUB_OUTPUT"
fi
echo "exit-code=$code" >>"$GITHUB_OUTPUT"
