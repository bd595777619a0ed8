"""The first things that go wrong on a new machine, each with its cure. Works on any Python 3, to be able to say so."""

import importlib
import sqlite3
import sys

NEEDED = (3, 11)


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


def check_machine() -> None:
    """Raise DemoError if this Python, its packages or its SQLite cannot run the demo."""
    if sys.version_info < NEEDED:
        found = "{}.{}".format(*sys.version_info[:2])
        raise DemoError(
            f"this is Python {found}, the demo needs 3.11 or newer; name one: `make demo PYTHON=python3.11`"
        )
    _check_package(
        "samovar", "cached", "run `make demo`, or install it with `pip install .` in the root of the repository"
    )
    for package in ("starlette", "uvicorn"):
        _check_package(package, "__version__", "run `make demo`, or `pip install -r examples/demo/requirements.txt`")
    _check_full_text_search()


def _check_package(package: str, name: str, cure: str) -> None:
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise DemoError(f"cannot import {package} ({error}) into {sys.executable}; {cure}") from error
    if not hasattr(module, name):
        where = getattr(module, "__file__", None) or list(getattr(module, "__path__", []))
        raise DemoError(f"the {package} found in {where} is not the installed package; {cure}")


def _check_full_text_search() -> None:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE probe USING fts5 (text)")
        connection.execute("SELECT json_group_array(text) FROM probe")
    except sqlite3.OperationalError as error:
        raise DemoError(
            f"SQLite {sqlite3.sqlite_version} of this Python lacks full-text search or JSON ({error}); "
            "use a Python from python.org or of your system"
        ) from error
    finally:
        connection.close()
