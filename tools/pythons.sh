#!/usr/bin/env bash
# Lists the Pythons that can build and test the package, one executable a line, lowest version first, one per minor version.
# Looks under pyenv, on PATH and under uv, in this order. `tools/pythons.sh --first` prints the lowest alone and fails when there is none.
set -euo pipefail

# Prints "3.11 /real/python" for a usable interpreter. An active virtual environment counts as the Python it was made from,
# so that environments made with it stand when that one goes.
# Free-threaded builds are left out: nothing here has been tested on one.
probe='
import sys, sysconfig
import ensurepip, venv
usable = sys.implementation.name == "cpython" and sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")
if usable:
    print(f"{sys.version_info[0]}.{sys.version_info[1]}", getattr(sys, "_base_executable", "") or sys.executable)
'

# pyenv's shims are slow, and answer only for the versions that are selected; what is behind them is listed anyway.
pyenv=${PYENV_ROOT:-$HOME/.pyenv}
candidates() {
    local minor
    ls -d "$pyenv"/versions/3.1[1-9]*/bin/python 2>/dev/null || true
    for minor in 11 12 13 14 15 16 17 18 19; do type -ap "python3.$minor" || true; done
    type -ap python3 python || true
    ls -d "$HOME"/.local/share/uv/python/cpython-3.1[1-9]*/bin/python3 2>/dev/null || true
}

# A Python that does not run, or has no venv, fails its probe and is passed over.
found=$(candidates | awk -v shims="$pyenv/shims/" 'index($0, shims) != 1 && !seen[$0]++' | while read -r python; do
    "$python" -I -c "$probe" 2>/dev/null || true
done | sort -s -t. -k2,2n | awk '!seen[$1]++' | cut -d' ' -f2-)

if [ -z "$found" ]; then
    echo "no usable Python: CPython 3.11 or later with venv and ensurepip is needed (on Debian: apt-get install python3-venv);" \
        "if it is in an unusual place, say so: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
fi
if [ "${1:-}" = --first ]; then echo "${found%%$'\n'*}"; else echo "$found"; fi
