#!/usr/bin/env bash
# tools/check.sh GROUP...: runs groups of checks (rust, python, lint), every check to its end, and closes with a table.
# Exits non-zero when any check failed. PYTHON is the interpreter of the lint group, PYTHONS those of the python group,
# one a line; PROFILE is the cargo profile of the wheel under test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-$(tools/pythons.sh --first)}
PYTHONS=${PYTHONS:-$PYTHON}
PROFILE=${PROFILE:-fast}
test_needs=tools/requirements/test.txt
lint_needs=tools/requirements/lint.txt
locked=(${CI:+--locked})
table=() failures=0

# step NAME COMMAND...: runs the command, shows all it says, and notes how it ended.
step() {
    local name=$1 verdict=ok began=$SECONDS
    shift
    printf '\n==> %s\n' "$name"
    "$@" || verdict=FAILED
    note "$name" "$verdict" "$((SECONDS - began))"
    [ "$verdict" = ok ]
}

note() {
    table+=("$(printf '%-30s %-8s %5s s' "$@")")
    [ "$2" = ok ] || failures=$((failures + 1))
}

check_rust() {
    step "rust: the core alone" cargo test "${locked[@]}" --no-default-features || true
    if step "redis-server" tools/redis.sh; then
        step "rust: with tokio, codecs, redis" cargo test "${locked[@]}" --features=codecs,redis || true
    else
        note "rust: redis" "not run" 0
        step "rust: with tokio and codecs" cargo test "${locked[@]}" --features=codecs || true
    fi
}

check_python() {
    local pythons python version
    mapfile -t pythons <<<"$PYTHONS"
    for python in "${pythons[@]}"; do
        version=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        if step "python $version: wheel, $PROFILE" tools/env.sh "$version" "$python" "$PROFILE" "$test_needs"; then
            step "python $version: tests" "build/venv-$version/bin/python" -P -m pytest || true
        else
            note "python $version: tests" "not run" 0
        fi
    done
}

check_lint() {
    local bin=build/venv-lint/bin features
    step "layers" "$PYTHON" -I tools/check_layers.py . || true
    step "behaviours" "$PYTHON" -I tools/check_behaviours.py . || true
    step "rustfmt" cargo fmt --check || true
    step "rustfmt: fuzz" cargo fmt --check --manifest-path fuzz/Cargo.toml || true
    step "rustfmt: hit ratios" cargo fmt --check --manifest-path benches/hit_ratio/Cargo.toml || true
    step "rustfmt: threads" cargo fmt --check --manifest-path benches/threads/Cargo.toml || true
    export PYO3_PYTHON=$PYTHON # else pyo3 takes whatever python3 is first on PATH
    for features in --no-default-features --features=default --features=codecs --features=redis --features=python; do
        step "clippy $features" cargo clippy "${locked[@]}" --quiet --all-targets $features -- -D warnings || true
    done
    RUSTDOCFLAGS="-D warnings" step "rustdoc" \
        cargo doc "${locked[@]}" --quiet --no-deps --features=python --document-private-items || true

    if ! step "lint: environment" tools/env.sh lint "$PYTHON" "$PROFILE" "$test_needs" "$lint_needs"; then
        note "ruff, mypy, pyright, stubtest" "not run" 0
        return
    fi
    step "ruff check" $bin/ruff check --cache-dir build/ruff . || true
    step "ruff format" $bin/ruff format --cache-dir build/ruff --check . || true
    step "mypy: package, tools" $bin/mypy --strict --cache-dir build/mypy python/samovar tools || true
    step "mypy: hit ratios" $bin/mypy --strict --cache-dir build/mypy-hit-ratio -p benches.hit_ratio || true
    step "mypy: use of the package" $bin/mypy --strict --cache-dir build/mypy-use tests/typing || true
    step "pyright" $bin/pyright --pythonpath $bin/python python/samovar tests/typing || true
    step "stubtest" $bin/stubtest samovar._core --mypy-config-file pyproject.toml || true
}

for group in "$@"; do "check_$group"; done

printf '\n-----\n'
printf '%s\n' "${table[@]}"
printf -- '-----\n%d checks, %d not passed, %d s\n' ${#table[@]} $failures $SECONDS
[ $failures -eq 0 ]
