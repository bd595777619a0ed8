"""What every test that asks for it finds checked at its end."""

import gc
from collections.abc import Iterator

import pytest
from samovar import Cache


@pytest.fixture
def nothing_left_behind(cache: Cache) -> Iterator[None]:
    yield
    gc.collect()
    inspected = cache._inspect()
    assert (inspected["tasks"], inspected["flights"], inspected["fault"]) == (0, 0, None)
