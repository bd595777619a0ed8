#!/usr/bin/env bash
# tools/venv.sh NAME PYTHON REQUIREMENTS...: the environment build/venv-NAME, with exactly these requirement files installed.
# Made anew when the Python, the requirements, the place or this script changed, and left alone otherwise.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

name=$1 python=$2
shift 2
venv=build/venv-$name
options=()
for file in "$@"; do options+=(--requirement "$file"); done

want=$("$python" -I -c 'import sys; print(sys.executable, sys.version)'; pwd; cat "$0" "$@")
[ -x "$venv/bin/python" ] && [ "$(cat "$venv/made-from" 2>/dev/null)" = "$want" ] && exit 0

echo "making $venv ($("$python" -V))" >&2
mkdir -p build
"$python" -m venv --clear "$venv"
[ $# -eq 0 ] || "$venv/bin/python" -m pip install --quiet "${options[@]}"
printf '%s\n' "$want" >"$venv/made-from"
