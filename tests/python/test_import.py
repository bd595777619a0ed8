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
