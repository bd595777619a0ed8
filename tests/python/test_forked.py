"""A forked child keeps the entries, and a sweeper of its own frees them."""

import os
import time

import pytest
from samovar import Cache, Memory

ENTRIES = 20_000


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_what_expires_in_a_child_is_freed_untouched(busy: bool) -> None:
    cache = Cache(name="forked", memory=Memory(max_entries=ENTRIES))
    until = time.monotonic() + 0.5
    for n in range(ENTRIES):
        cache.sync.set(f"key{n}", n, max(0.001, until - time.monotonic()))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            while cache.stats().entries > 0 and time.monotonic() < until + 10:
                if busy:
                    sum(range(1_000))
                else:
                    time.sleep(0.005)
            code = cache.stats().entries > 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
