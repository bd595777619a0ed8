#!/usr/bin/env bash
# tools/valgrind.sh PYTHON: runs tests/native/exercise.py under valgrind's memcheck, with the extension optimised as it is
# shipped, and with symbols. Fails on every access to what is not ours or not written yet, and on every block that is
# definitely lost, but for what tools/valgrind.supp names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v valgrind >/dev/null; then
    echo "valgrind is not installed: on Debian, apt-get install valgrind" >&2
    exit 1
fi
MATURIN_STRIP=false tools/env.sh valgrind "$1" valgrind

# Python's own allocator would hide its objects from memcheck. Threads take turns fairly, or the sweeper starves.
watched() {
    PYTHONMALLOC=malloc valgrind --error-exitcode=99 --fair-sched=yes --num-callers=30 --suppressions=tools/valgrind.supp "$@"
}
echo "==> to the end of the interpreter: accesses"
watched --leak-check=no build/venv-valgrind/bin/python -P tests/native/exercise.py
echo "==> stopped while the interpreter stands: what is lost"
watched --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
    build/venv-valgrind/bin/python -P tests/native/exercise.py --abrupt
