#!/usr/bin/env bash
# Makes what is published: a release wheel for every Python found and a source distribution, into dist/.
# Each is installed where nothing else is and imported; a wheel over 10 MB is an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
limit=$((10 * 1000 * 1000))
hello='import samovar, samovar._core; print("imports:", samovar.__file__)'

rm -rf dist && mkdir dist
mapfile -t pythons < <(tools/pythons.sh)
for python in "${pythons[@]}"; do
    wheel=$(tools/wheel.sh "$python" release)
    cp "$wheel" dist/
    tools/venv.sh wheel "$python"
    build/venv-wheel/bin/python -m pip install --quiet --no-index --force-reinstall "$wheel"
    build/venv-wheel/bin/python -P -c "$hello"
done

# The source distribution is built the way pip does for a user: alone in a folder, its build tools fetched anew.
# Only cargo's target folder is shared, so that dependencies compiled a minute ago are not compiled again.
build/venv-build/bin/maturin sdist --out dist
if tar -tzf dist/samovar-*.tar.gz | grep -E '^[^/]+/(build|dist|target)/'; then
    echo "the source distribution holds what was built; anchor the patterns of include in Cargo.toml with a leading /" >&2
    exit 1
fi
tools/venv.sh sdist "${pythons[0]}"
CARGO_TARGET_DIR=$PWD/target build/venv-sdist/bin/python -m pip install --quiet --force-reinstall dist/samovar-*.tar.gz
build/venv-sdist/bin/python -P -c "$hello"

echo
status=0
for file in dist/*; do
    size=$(wc -c <"$file")
    printf '%9d bytes  %s\n' "$size" "${file#dist/}"
    if [ "$size" -gt $limit ]; then
        echo "${file#dist/} is over the $limit bytes a wheel may have" >&2
        status=1
    fi
done
exit $status
