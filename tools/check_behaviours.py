"""Holds Rust's cache and Python's to one list of behaviours: the table in tests/behaviours.md.

    python tools/check_behaviours.py ROOT

A behaviour is the name of a test. Of each subject the table names every test of tests/python/test_SUBJECT.py and of
tests/rust_SUBJECT.rs, and says whether it is in both, or why only one language has it. Reads text; it does not run the
tests. Prints what does not agree and exits with 1, or with 2 when ROOT has no table.
"""

import ast
import re
import sys
from pathlib import Path

TABLE = Path("tests/behaviours.md")
SUBJECT = re.compile(r"^## (\w+)$", re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| (both|(?:Python|Rust): \S.*) \|$")
RUST_TEST = re.compile(r"#\[(?:tokio::)?test(?:\([^)]*\))?\]\s*(?:async\s+)?fn\s+(\w+)")


def in_python(text: str) -> set[str]:
    """Return the names of a Python file's tests, without their prefix."""
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name.removeprefix("test_") for node in functions if node.name.startswith("test_")}


def in_rust(text: str) -> set[str]:
    """Return the names of a Rust file's tests."""
    return set(RUST_TEST.findall(text))


def check(subject: str, rows: str, root: Path) -> list[str]:
    """Return what the table says of a subject and the tests do not, or the other way round."""
    found: list[str] = []
    listed: dict[str, str] = {}
    for line in rows.splitlines():
        if not line.startswith("| `"):
            continue
        row = ROW.match(line)
        if row is None:
            found.append(f"{subject}: {line!r} says neither 'both' nor 'Python: why' nor 'Rust: why'")
        elif row.group(1) in listed:
            found.append(f"{subject}: {row.group(1)} is listed twice")
        else:
            listed[row.group(1)] = row.group(2).partition(":")[0]
    tests = {
        "Python": in_python((root / f"tests/python/test_{subject}.py").read_text()),
        "Rust": in_rust((root / f"tests/rust_{subject}.rs").read_text()),
    }
    for language, names in tests.items():
        expected = {name for name, where in listed.items() if where in ("both", language)}
        found += [f"{subject}: {name} is no test in {language}; write it, or say why not" for name in expected - names]
        found += [f"{subject}: {name} is a test in {language}; list it so" for name in names - expected]
    return sorted(found)


def main() -> None:
    """Check the tree named on the command line."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    if not (root / TABLE).is_file():
        print(f"no {TABLE} below {root}; give the root of the repository", file=sys.stderr)
        sys.exit(2)
    _, *parts = SUBJECT.split((root / TABLE).read_text())
    subjects = list(zip(parts[::2], parts[1::2], strict=True))
    found = [finding for subject, rows in subjects for finding in check(subject, rows, root)]
    for finding in found:
        print(f"{TABLE}: {finding}")
    print(f"behaviours: {len(found)} findings" if found or not subjects else "behaviours: nothing found", flush=True)
    sys.exit(1 if found or not subjects else 0)


if __name__ == "__main__":
    main()
