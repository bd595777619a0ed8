"""What an answer is apart from its value: an object that is dropped, collected, and looked at."""

import pytest
from samovar import Cache


def test_an_answer_that_is_dropped_while_an_error_is_raised_leaves_the_error_alone(cache: Cache) -> None:
    @cache.cached("5m")
    async def load(n: int) -> int:
        return n

    with pytest.warns(RuntimeWarning, match="never awaited"), pytest.raises(AttributeError, match="missing"):
        load(1).missing
