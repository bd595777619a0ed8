"""What `import samovar` does to a process that has not asked for anything yet."""

import os
import subprocess
import sys

import pytest

SEEN = """
import os, threading
before = len(os.listdir("/proc/self/task"))
import samovar
print(threading.active_count(), len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system does not list threads")
def test_the_import_starts_no_thread():
    run = subprocess.run([sys.executable, "-P", "-c", SEEN], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "0"]


SUBINTERPRETER = """
try:
    import _interpreters as interpreters                    # from 3.13 on
    made = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    made = interpreters.create(isolated=False)
interpreters.run_string(made, '''
try:
    import samovar
except ImportError as error:
    print(error, flush=True)
''')
interpreters.destroy(made)
"""


@pytest.mark.parametrize("before", ["", "import samovar\n"], ids=["first", "after the main one"])
def test_in_a_subinterpreter_the_import_is_refused_with_the_cure(before: str) -> None:
    command = [sys.executable, "-P", "-W", "ignore", "-c", before + SUBINTERPRETER]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "main interpreter of a process only" in run.stdout
    assert "WSGIApplicationGroup" in run.stdout


ENDINGS = {
    "nothing was called": "",
    "a function was only decorated": "@cached\ndef f(x): return x",
    "a function was called": "@cached('5m')\ndef f(x): return [x]\nf(1); f(1)",
    "an async function was only decorated": "@cached\nasync def f(x): return x",
    "an answer was not awaited": (
        "import warnings\nwarnings.simplefilter('ignore')\n@cached\nasync def f(x): return x\nkept = f(1)"
    ),
    "a cache is in a cycle": "c = Cache()\nc.sync.set('a', [c])",
    "a method was called": "class K:\n    @cached\n    def m(self): return self\nk = K(); k.m()",
}


@pytest.mark.parametrize("program", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_program_ends_in_silence_after(program: str):
    source = f"from samovar import Cache, cached\n{program}\n"
    run = subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_part_is_there_once_its_name_is_used_and_costs_nothing_before() -> None:
    program = """
import sys, samovar
assert "samovar.resilience" not in sys.modules
assert samovar.resilience.Retry(2).stats().calls == 0
assert samovar.testing.frozen_clock
try:
    samovar.resilient
except AttributeError as error:
    assert "no attribute 'resilient'" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)
