#!/usr/bin/env bash
# tools/env.sh NAME PYTHON PROFILE REQUIREMENTS...: build/venv-NAME with these requirements and a wheel of the present source.
# The wheel is installed again only when its contents changed. What is imported there is proved to be the wheel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

name=$1 python=$2 profile=$3
shift 3
venv=build/venv-$name
tools/venv.sh "$name" "$python" "$@"
wheel=$(tools/wheel.sh "$python" "$profile")
sum=$(sha256sum <"$wheel")
if [ "$(cat "$venv/wheel" 2>/dev/null)" != "$sum" ]; then
    rm -f "$venv/wheel"
    "$venv/bin/python" -m pip install --quiet --no-index --no-deps --force-reinstall "$wheel"
    printf '%s\n' "$sum" >"$venv/wheel"
fi
"$venv/bin/python" -P tools/check_installed.py
