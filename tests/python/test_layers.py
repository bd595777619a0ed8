"""tools/check_layers.py: each rule catches what it forbids and passes what only looks like it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CHECKER = Path(__file__).parents[2] / "tools" / "check_layers.py"

CLEAN = {
    "src/lib.rs": """\
//! The map of the crate.
pub mod cache;
pub mod core;
#[cfg(feature = "python")]
mod python;
pub use cache::{Cache, Builder as CacheBuilder};
pub use error::Error;
""",
    "src/error.rs": "//! One error.\npub struct Error;\n",
    "src/cache.rs": "//! The face.\nuse crate::core::key;\nuse std::thread;\nfn f() { Instant::now(); }\n",
    "src/core/mod.rs": "//! Pure.\npub mod clock;\npub mod key;\n",
    "src/core/clock.rs": "//! Time.\npub fn now() -> std::time::Instant { std::time::Instant::now() }\n",
    "src/core/key.rs": "//! Keys.\nuse crate::{Error, core::clock};\nuse super::clock::now;\n",
    "src/codec/mod.rs": "//! Bytes.\nuse crate::core::key;\n",
    "src/io/mod.rs": "//! Edges.\nuse tokio::net::TcpStream;\nuse crate::{codec, core};\n",
    "src/python/mod.rs": "//! The bindings.\nuse pyo3::prelude::*;\nuse crate::cache::Cache;\n",
    "python/samovar/__init__.py": '"""The package."""\n',
}

FORBIDDEN = [
    ("src/core/key.rs", "use pyo3::Python;", "pyo3"),
    ("src/cache.rs", "fn f(_: &pyo3_ffi::PyObject) {}", "pyo3"),
    ("src/core/key.rs", "use tokio::sync::Mutex;", "pure core"),
    ("src/core/key.rs", "use std::{sync::Arc, thread};", "pure core"),
    ("src/core/key.rs", "fn f() { std::fs::read(p); }", "pure core"),
    ("src/core/key.rs", "fn f() { ::std::net::lookup(); }", "pure core"),
    ("src/core/key.rs", "fn f() { redis::cmd(); }", "pure core"),
    ("src/core/key.rs", "fn f() { Instant::now(); }", "clock"),
    ("src/core/key.rs", "fn f() { std::time::SystemTime :: now(); }", "clock"),
    ("src/core/key.rs", "fn f() { start.elapsed(); }", "clock"),
    ("src/core/key.rs", "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }", "clock"),
    ("src/core/key.rs", "use crate::io::Store;", "arrow"),
    ("src/core/key.rs", "use crate::{error::Error, codec::{self as c}};", "arrow"),
    ("src/core/key.rs", "fn f(_: crate::work::Supervisor) {}", "arrow"),
    ("src/core/key.rs", "use super::super::cache;", "arrow"),
    ("src/core/key.rs", "mod inner { use super::super::super::cache; }", "arrow"),
    ("src/core/key.rs", "use crate::Cache;", "arrow"),
    ("src/core/key.rs", "use crate::CacheBuilder;", "arrow"),
    ("src/core/key.rs", "use crate::*;", "arrow"),
    ("src/codec/mod.rs", "use crate::io::Store;", "arrow"),
    ("src/io/mod.rs", "use super::cache::Cache;", "arrow"),
    ("src/io/mod.rs", "use crate::work;", "arrow"),
    ("src/cache.rs", "use crate::python::Bridge;", "arrow"),
    ("src/lib.rs", "mod python;", "face"),
    ("src/lib.rs", '#[cfg(feature = "tokio")]\nmod python;', "face"),
    ("src/lib.rs", '#[cfg(feature = "python")]\npub mod python;', "face"),
    ("src/cache.rs", "fn f() { unsafe { g() } }", "safety"),
    ("src/cache.rs", "// SAFETY: for the other one.\n\nunsafe impl Send for X {}", "safety"),
    ("src/cache.rs", "// SAFETY: the first.\nunsafe impl Send for X {}\nunsafe impl Sync for X {}", "safety"),
    ("src/cache.rs", 'pub unsafe extern "C" fn f() {}', "safety"),
    ("src/cache.rs", 'unsafe extern "C" { fn f(); }', "safety"),
    ("src/cache.rs", "pub unsafe trait T {}", "safety"),
    ("src/error.rs", "//! # Safety\n//! Slots.\n\nunsafe fn f() { unsafe { g() } }", "safety"),
    ("src/cache.rs", "\n" * 800, "length"),
    ("python/samovar/__init__.py", "\n" * 800, "length"),
]

ALLOWED = [
    ("src/core/key.rs", "// pyo3, tokio::spawn and Instant::now()\n/* use /* tokio::x */ std::fs; */"),
    (
        "src/core/key.rs",
        """fn f() { ["tokio::x \\" pyo3", r#"std::fs "quoted" unsafe { }"#, b"redis::x"] }""",
    ),
    ("src/core/key.rs", "fn f<'a>(c: char, s: &'a str) -> bool { c == '\"' || c == '\\'' } // \"tokio::x\""),
    ("src/core/key.rs", "#[cfg(test)]\nmod tests { use super::*; fn f() { std::thread::spawn(g); } }"),
    ("src/core/key.rs", "#[cfg(all(test, unix))]\nmod tests { use super::super::key; use std::{fs, net}; }"),
    ("src/core/tests.rs", "//! Tests.\nuse std::thread;"),
    ("src/core/key.rs", "use core::mem; fn f(redis: u8, stdx: u8) { tokio_like::now(); }"),
    ("src/core/key.rs", "pub(in crate::core) fn f() { self::g(); crate::Error; }"),
    ("src/cache.rs", "// SAFETY: the pointer\n// is ours.\n#[inline]\nunsafe fn f() {}"),
    ("src/cache.rs", '/// Reads.\n///\n/// # Safety\n/// `p` is valid.\npub unsafe extern "C" fn f() {}'),
    ("src/io/raw.rs", "//! Slots.\n//!\n//! # Safety\n//! Called by the interpreter.\nunsafe fn f() {}"),
    ("src/cache.rs", "// SAFETY: checked.\nlet x =\n    unsafe { g() };"),
    ("src/cache.rs", 'type Call = unsafe extern "C" fn(*mut u8);\n#[unsafe(no_mangle)]\nfn f() {}'),
]


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("check_layers", CHECKER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module.check
    del sys.modules[spec.name]


@pytest.fixture
def tree(tmp_path):
    write(tmp_path, CLEAN)
    return tmp_path


def test_a_clean_tree_has_no_findings(check, tree):
    assert check(tree) == []


@pytest.mark.parametrize(("path", "planted", "rule"), FORBIDDEN)
def test_a_planted_violation_is_found_at_its_line(check, tree, path, planted, rule):
    text = CLEAN[path] + planted
    write(tree, {path: text})
    found = check(tree)
    assert [(finding.path, finding.rule) for finding in found] == [(path, rule)]
    assert CLEAN[path].count("\n") < found[0].line <= text.count("\n") + 1


@pytest.mark.parametrize(("path", "planted"), ALLOWED)
def test_what_only_looks_like_a_violation_passes(check, tree, path, planted):
    write(tree, {path: CLEAN.get(path, "") + planted})
    assert check(tree) == []


@pytest.mark.parametrize("path", ["src/core/eviction/lru.rs", "python/samovar/_cached.py"])
def test_a_file_without_a_header_is_found(check, tree, path):
    write(tree, {path: "\n"})
    assert [(finding.path, finding.line, finding.rule) for finding in check(tree)] == [(path, 1, "header")]


def test_the_command_names_line_rule_and_cure_and_fails(tree):
    write(tree, {"src/core/key.rs": "//! Keys.\n\nuse std::fs;\n"})
    run = subprocess.run([sys.executable, "-I", CHECKER, tree], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stdout.startswith("src/core/key.rs:3: pure core: std::fs in the core; files live in src/io")


def test_the_command_refuses_a_folder_without_source(tmp_path):
    run = subprocess.run([sys.executable, "-I", CHECKER, tmp_path], capture_output=True, text=True)
    assert run.returncode == 2
    assert "no src/lib.rs" in run.stderr
