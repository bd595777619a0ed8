#!/usr/bin/env bash
# tools/wheel.sh PYTHON PROFILE: builds the wheel for one Python into build/wheels/PROFILE and prints its path.
# PROFILE is a cargo profile. Cargo decides what is stale, so calling this with nothing changed is cheap.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export SOURCE_DATE_EPOCH=315532800 # equal sources make equal wheels; without it the bill of materials carries the time

python=$1 profile=$2
tools/venv.sh build "$(tools/pythons.sh --first)" tools/requirements/build.txt
tag=$("$python" -I -c 'import sys; print(f"cp{sys.version_info[0]}{sys.version_info[1]}")')
out=build/wheels/$profile
mkdir -p "$out"
rm -f "$out"/samovar-*-"$tag"-*.whl
build/venv-build/bin/maturin build --quiet ${CI:+--locked} --profile "$profile" --interpreter "$python" --out "$out" >&2
ls "$out"/samovar-*-"$tag"-*.whl
