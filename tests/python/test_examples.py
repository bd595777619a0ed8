"""The examples that are programs of their own, run as a reader of them would. `make demo` is not among them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import RedisServer

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "examples" / "shared"
#: With these the Rust tests have built the examples already.
FEATURES = "codecs,redis"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cargo_example(name: str) -> Path:
    run("cargo", "build", "--quiet", "--features", FEATURES, "--example", name)
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return ROOT / target / "debug" / "examples" / name


@pytest.mark.slow
@pytest.mark.timeout(900)  # the example may have to be compiled
def test_a_rust_program_and_a_python_program_share_the_entries_of_one_redis(redis):
    rust = cargo_example("shared")

    def in_python(*numbers: int) -> list[str]:
        return run(sys.executable, "-P", SHARED / "app.py", redis.url, *map(str, numbers)).splitlines()

    def in_rust(*numbers: int) -> list[str]:
        return run(rust, redis.url, *map(str, numbers)).splitlines()

    def loaders(lines: list[str]) -> list[str]:
        return [line.rpartition("loaded by ")[2] for line in lines]

    first = in_python(1, 3)
    assert loaders(first) == ["Python", "Python"]
    second = in_rust(1, 2, 3, 4)
    assert loaders(second) == ["Python", "Rust", "Python", "Rust"]
    assert second[0::2] == first
    assert in_python(1, 2, 3, 4) == second
    entries = [key for key in redis.ask("KEYS", "*").split()[2::2] if b":" in key]
    assert sorted(entries) == [b"shop::product:%d" % number for number in (1, 2, 3, 4)]
