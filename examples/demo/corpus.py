"""Real text to fill the demo's database: the documentation strings of Python's own standard library.

Sources are parsed, never imported, so nothing of the library runs. The text depends on the Python version only.
What a page looks like is decided in `database.py`.
"""

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHORTEST = 120  # characters; below that a documentation string is a label, not a text
LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Text:
    """One documentation string and the dotted name of what it documents."""

    name: str
    text: str


def source_files() -> list[Path]:
    """Every source file of the standard library, in a fixed order; its test suites are left out."""
    root = Path(sysconfig.get_path("stdlib"))
    return [path for path in sorted(root.rglob("*.py")) if not LEFT_OUT.intersection(path.relative_to(root).parts)]


def texts_of(path: Path) -> Iterator[Text]:
    """The documentation strings in one file, outermost first; nothing if the file is not valid Python."""
    root = Path(sysconfig.get_path("stdlib"))
    module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's files
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    yield from _walk(tree, module)


def _walk(node: ast.AST, name: str) -> Iterator[Text]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text and len(text) >= SHORTEST:
            yield Text(name, text)
    for child in ast.iter_child_nodes(node):
        own = getattr(child, "name", None) if isinstance(child, ast.stmt) else None
        yield from _walk(child, f"{name}.{own}" if own else name)
