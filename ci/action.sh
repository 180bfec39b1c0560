#!/usr/bin/env bash
# The step of action.yml. Inputs come through the environment, never through the text of a command.
set -euo pipefail

arguments=()
add() { # add FLAG LINES: the flag before each line that is not empty, or the lines alone
    local line
    while IFS= read -r line; do
        line="${line#"${line%%[![:space:]]*}"}"
        line="${line%"${line##*[![:space:]]}"}"
        [[ -z "$line" ]] || arguments+=(${1:+"$1"} "$line")
    done <<<"$2"
}
add --expect "${TRM_EXPECT:-}"
if [[ "${TRM_SUMMARY:-true}" == true && -n "${GITHUB_STEP_SUMMARY:-}" ]]; then
    arguments+=(--summary "$GITHUB_STEP_SUMMARY")
fi
arguments+=(--) # what follows is a path, whatever it begins with
add "" "${TRM_PATHS:-.}"

code=0
"${TRM_PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/check" "${arguments[@]}" || code=$?
if [[ -n "${GITHUB_OUTPUT:-}" ]]; then
    echo "exit-code=$code" >>"$GITHUB_OUTPUT"
fi
exit "$code"
