"""Holds the layer rules: who may name whom, who may ask for the time, how a file begins and how long it gets.

    python tools/check_layers.py ROOT

Reads the source as text, with comments and strings taken out, so it needs neither Rust nor an installed
package. It follows `use` trees, `super::` and what lib.rs re-exports; it does not expand macros. Prints
`file:line: rule: what; cure` and exits with 1 when something was found, with 2 when ROOT holds no source.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Arrows point one way. A layer names itself and these. A module at the top of src/ that is not listed here
# may name everything but `python`, and no layer may name it until its line here says so.
BELOW: dict[str, frozenset[str]] = {
    "error": frozenset(),
    "core": frozenset({"error"}),
    "codec": frozenset({"core", "error"}),
    "io": frozenset({"core", "codec", "error"}),
}
# Nobody needs the face: only lib.rs declares it.
FACE = "python"
CLOCK = "src/core/clock.rs"
MAX_LINES = 800
LONG_FILES = ("src", "python", "tests", "benches", "examples", "tools")
NOT_OURS = {"__pycache__", "target", "build", ".venv"}

# What the core may not name, from the first segments of a path, and what to do instead.
IMPURE = {
    ("tokio",): "the core is driven: return an effect and let cache.rs or src/python carry it out",
    ("redis",): "stores live in src/io; the core sees bytes and stamps",
    ("std", "net"): "the network lives in src/io",
    ("std", "fs"): "files live in src/io",
    ("std", "thread"): "background work lives in work.rs; let the caller bring the thread",
}
# Unit tests of the core may use these to bring threads and files of their own.
FREE_IN_TESTS = {("std", "net"), ("std", "fs"), ("std", "thread")}
CLOCK_CURE = f"take `now` as an argument; only {CLOCK} asks the system"


@dataclass(frozen=True, order=True)
class Finding:
    """One broken rule at one line."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


@dataclass
class RustFile:
    """A source file, and the same text with comments, or comments and strings, blanked out."""

    path: str
    text: str
    code: str = field(init=False)
    blocks: list[tuple[int, int, bool]] = field(init=False)

    def __post_init__(self) -> None:
        self.code = blank(self.text)
        self.blocks = list(inline_modules(self.code))

    @property
    def module(self) -> list[str]:
        """The path of the file's module below the crate: `src/core/memory/mod.rs` is `["core", "memory"]`."""
        parts = self.path.removeprefix("src/").removesuffix(".rs").split("/")
        return parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts

    @property
    def is_test(self) -> bool:
        return self.module[-1:] == ["tests"] or "tests" in self.module or self.path.endswith("_tests.rs")

    def line(self, at: int) -> int:
        return self.code.count("\n", 0, at) + 1

    def finding(self, at: int, rule: str, text: str) -> Finding:
        return Finding(self.path, self.line(at), rule, text)

    def depth(self, at: int) -> int:
        """How many modules the position is below the crate, inline `mod` blocks included."""
        return len(self.module) + sum(start <= at < end for start, end, _ in self.blocks)

    def in_test(self, at: int) -> bool:
        return self.is_test or any(start <= at < end and test for start, end, test in self.blocks)


# A lifetime is not the start of a character: 'a' is one, 'a in &'a str is not.
TOKEN = re.compile(
    r"""//[^\n]*"""
    r"""|/\*"""
    r"""|\b(?:b|c)?r(?P<hashes>\#*)"[\s\S]*?"(?P=hashes)"""
    r"""|\b(?:b|c)?"(?:\\[\s\S]|[^"\\])*\""""
    r"""|"(?:\\[\s\S]|[^"\\])*\""""
    r"""|'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])'"""
)


def blank(text: str) -> str:
    """Replace comments and the insides of literals by spaces; lines and columns stay where they were."""
    out: list[str] = []
    at = 0
    while found := TOKEN.search(text, at):
        end = found.end()
        token = found.group()
        if token == "/*":
            end = end_of_block_comment(text, found.start())
        out.append(text[at : found.start()])
        hidden = re.sub(r"[^\n]", " ", text[found.start() : end])
        out.append(f'"{hidden[1:-1]}"' if token.endswith('"') else hidden)
        at = end
    return "".join(out) + text[at:]


def end_of_block_comment(text: str, start: int) -> int:
    """Return where the comment that opens at *start* closes; they nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


def inline_modules(code: str) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, only built for tests) of every `mod name { ... }`."""
    for found in re.finditer(r"((?:#\[[^\]]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?\bmod\s+\w+\s*\{", code):
        depth = 1
        end = found.end()
        while depth and end < len(code):
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        yield found.end(), end, re.search(r"\bcfg\s*\(.*\btest\b", found.group(1)) is not None


PATH = re.compile(r"(?<![\w:])(?:::)?\s*([A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)+)")
USE = re.compile(r"\buse\s+([^;]*);")


def paths(code: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (position, segments) of every path of two segments or more, and every branch of every `use`."""
    for found in USE.finditer(code):
        yield from use_tree(found.group(1), found.start(1), [])
    rest = USE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), code)
    for found in PATH.finditer(rest):
        yield found.start(1), re.split(r"\s*::\s*", found.group(1))


def use_tree(tree: str, at: int, before: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield every leaf of `a::{b, c::{d as e, *}}` with the position where the leaf stands."""
    for start, end in branches(tree):
        branch = tree[start:end]
        lead = len(branch) - len(branch.lstrip())
        head, brace, inner = branch.partition("{")
        names = [name for name in re.split(r"\s*::\s*", re.sub(r"\s+as\s+\w+", "", head).strip()) if name]
        if brace:
            yield from use_tree(inner.rpartition("}")[0], at + start + len(head) + 1, before + names)
        elif names:
            yield at + start + lead, before + [name for name in names if name != "self" or not before]


def branches(tree: str) -> Iterator[tuple[int, int]]:
    """Yield the spans between the commas that stand outside all braces."""
    start = depth = 0
    for at, char in enumerate(tree):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            yield start, at
            start = at + 1
    yield start, len(tree)


def reexports(lib: RustFile) -> dict[str, str]:
    """Return the top module of each name lib.rs re-exports: `pub use cache::Cache` gives Cache: cache."""
    found: dict[str, str] = {}
    for use in USE.finditer(lib.code):
        for _, segments in use_tree(re.sub(r"\b\w+\s+as\s+(\w+)", r"\1", use.group(1)), 0, []):
            segments = [name for name in segments if name not in ("crate", "self")]
            if len(segments) > 1:
                found[segments[-1]] = segments[0]
    return found


def check_rust(file: RustFile, roots: dict[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with one Rust file; *roots* is what lib.rs re-exports."""
    layer = file.module[0] if file.module else "lib"
    if not file.text.startswith("//!"):
        yield file.finding(0, "header", "no //! at the top; say what the module is for and its one invariant")
    if layer != FACE:
        yield from check_pyo3(file)
    if layer == "lib":
        yield from check_lib(file)
    else:
        yield from check_arrows(file, layer, roots)
    if layer == "core":
        yield from check_core(file)
    yield from check_unsafe(file)


def check_pyo3(file: RustFile) -> Iterator[Finding]:
    for found in re.finditer(r"\bpyo3\w*", file.code):
        text = f"{found.group()} named outside src/python; pass a plain value or a trait and convert there"
        yield file.finding(found.start(), "pyo3", text)


def check_lib(lib: RustFile) -> Iterator[Finding]:
    gate = '#[cfg(feature = "python")]'
    for found in re.finditer(r"\b(?:pub(?:\([^)]*\))?\s+)?mod\s+python\b", lib.code):
        if not lib.text[: found.start()].rstrip().endswith(gate) or found.group().startswith("pub"):
            text = f"declare it as `{gate} mod python;`, so that Rust users build without Python"
            yield lib.finding(found.start(), "face", text)


def check_arrows(file: RustFile, layer: str, roots: dict[str, str]) -> Iterator[Finding]:
    below = BELOW.get(layer)
    for at, segments in paths(file.code):
        target = top_module(segments, file.depth(at))
        if target is None:
            continue
        target = roots.get(target, target)
        if target == layer or (below is not None and target in below):
            continue
        if below is not None:
            may = ", ".join(sorted(below)) or "nothing else of the crate"
            text = f"{layer} names {'::'.join(segments)} but may name {may}: move the code up, or the type down"
            yield file.finding(at, "arrow", text)
        elif target == FACE:
            text = f"{layer} names {'::'.join(segments)}; only lib.rs knows src/python: hand in a trait"
            yield file.finding(at, "arrow", text)


def top_module(segments: list[str], depth: int) -> str | None:
    """Return the first name below the crate that a path reaches, or None if it stays inside its module."""
    if segments[0] == "crate":
        return segments[1] if len(segments) > 1 else None
    ups = 0
    rest = segments[1:] if segments[0] == "self" else segments
    while ups < len(rest) and rest[ups] == "super":
        ups += 1
    return rest[ups] if ups and ups >= depth and ups < len(rest) else None


def check_core(file: RustFile) -> Iterator[Finding]:
    for at, segments in paths(file.code):
        for names, cure in IMPURE.items():
            if tuple(segments[: len(names)]) == names and not (names in FREE_IN_TESTS and file.in_test(at)):
                yield file.finding(at, "pure core", f"{'::'.join(segments)} in the core; {cure}")
    if file.path == CLOCK:
        return
    for found in re.finditer(r"\b(Instant|SystemTime)\s*::\s*now\b|\.\s*elapsed\s*\(\s*\)", file.code):
        what = re.sub(r"\s", "", found.group())
        text = f"{what} reads the clock in the core; {CLOCK_CURE}"
        yield file.finding(found.start(), "clock", text)


# The unsafe things that need a word: blocks, impls, traits, functions by name and extern blocks; not types
# such as `unsafe extern "C" fn(*mut PyObject)`, nor attributes.
EXTERN = r'extern\s*(?:"\s*")?\s*'
UNSAFE = re.compile(rf"\bunsafe\s*(?:\{{|impl\b|trait\b|(?:{EXTERN})?fn\s+\w+|{EXTERN}\{{)")


def check_unsafe(file: RustFile) -> Iterator[Finding]:
    """Yield the unsafe things that give no reason.

    A `//! # Safety` section in the header of a file speaks for its functions, whose contract is often one and
    the same, as in a file of type slots. Blocks, impls and traits give their own reason always.
    """
    header = "\n".join(line for line in file.text.splitlines() if line.startswith("//!"))
    contract = re.search(r"^//! *# Safety\b", header, re.MULTILINE) is not None
    lines, code = file.text.splitlines(), file.code.splitlines()
    for found in UNSAFE.finditer(file.code):
        what = re.sub(r"\s+", " ", file.text[found.start() : found.end()]).rstrip(" {")
        if contract and " fn " in what:
            continue
        if not has_safety_comment(lines, code, file.line(found.start()) - 1):
            text = f"`{what}` without a reason; write `// SAFETY: ...` or `/// # Safety` just above it"
            yield file.finding(found.start(), "safety", text)


def has_safety_comment(lines: list[str], code: list[str], index: int) -> bool:
    """Whether comments that say SAFETY stand above the statement or item that line *index* belongs to."""
    above = index - 1
    while above >= 0:
        plain, bare = lines[above].strip(), code[above].strip()
        if plain and not bare:  # a comment
            if re.search(r"\bSAFETY:|#\s*Safety\b", plain):
                return True
        elif not bare or (bare[-1] in ";{},|" and not bare.startswith("#")):
            return False  # a blank line, or the end of another statement
        above -= 1
    return False


def check_python(path: str, text: str) -> Iterator[Finding]:
    """Yield what is wrong with one Python file of the package."""
    try:
        header = ast.get_docstring(ast.parse(text))
    except SyntaxError as error:
        yield Finding(path, error.lineno or 1, "header", f"does not parse: {error.msg}")
        return
    if not header:
        yield Finding(path, 1, "header", "no docstring at the top; say what the module is for")


def check(root: Path) -> list[Finding]:
    """Return everything found below *root*, in the order of files and lines."""
    found: list[Finding] = []
    rust = [RustFile(str(path.relative_to(root)), path.read_text()) for path in source(root / "src", "*.rs")]
    roots = next((reexports(file) for file in rust if file.path == "src/lib.rs"), {})
    for file in rust:
        found += check_rust(file, roots)
    for path in source(root / "python", "*.py"):
        found += check_python(str(path.relative_to(root)), path.read_text())
    for folder in LONG_FILES:
        for path in source(root / folder, "*.rs", "*.py", "*.pyi", "*.sh"):
            lines = len(path.read_text().splitlines())
            if lines > MAX_LINES:
                text = f"{lines} lines, {MAX_LINES} at most; make it a folder, or give its tests a file"
                found.append(Finding(str(path.relative_to(root)), lines, "length", text))
    return sorted(found)


def source(folder: Path, *patterns: str) -> list[Path]:
    """Return our own files below *folder*, sorted."""
    files = (path for pattern in patterns for path in folder.rglob(pattern))
    return sorted(path for path in files if not NOT_OURS.intersection(path.relative_to(folder).parts))


def main() -> None:
    """Check the tree named on the command line."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    if not (root / "src" / "lib.rs").is_file():
        print(f"no src/lib.rs below {root}; give the root of the repository", file=sys.stderr)
        sys.exit(2)
    found = check(root)
    for finding in found:
        print(finding)
    print(f"layers: {len(found)} findings" if found else "layers: nothing found", flush=True)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
