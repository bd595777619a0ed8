"""Proves that `import samovar` in this environment means the installed wheel and not the source tree."""

import importlib.metadata
import sys
from pathlib import Path

import samovar
import samovar._core


def main() -> None:
    """Print what is imported and from where; exit with a message if that is not this environment."""
    prefix = Path(sys.prefix).resolve()
    for module in (samovar, samovar._core):
        path = Path(module.__file__ or "").resolve()
        if prefix not in path.parents:
            sys.exit(f"{module.__name__} comes from {path}, not from {prefix}; unset PYTHONPATH")
    for part in ("py.typed", "_core.pyi"):
        if not (Path(samovar.__file__ or "").parent / part).is_file():
            sys.exit(f"the wheel lacks samovar/{part}: users lose its types; see [tool.maturin]")
    version = importlib.metadata.version("samovar")
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"samovar {version}, installed in {prefix.name}, Python {python}", flush=True)


if __name__ == "__main__":
    main()
