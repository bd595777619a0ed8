"""Values that their first reader uses up are refused: a generator, an answer that somebody forgot to await."""

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from samovar import Cache
from samovar._core import _weigh


async def awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


USED_UP: dict[str, Callable[[], Any]] = {
    "generator": lambda: (n for n in range(3)),
    "async generator": lambda: agenerator(),
    "map": lambda: map(str, [1]),
    "zip": lambda: zip([1], [2], strict=True),
    "iterator": lambda: iter([1]),
    "enumerate": lambda: enumerate([1]),
    "coroutine": lambda: nothing(),
}


async def agenerator() -> AsyncIterator[int]:
    yield 1


async def nothing() -> None: ...


@pytest.mark.parametrize("made", USED_UP.values(), ids=USED_UP.keys())
def test_what_its_first_reader_would_use_up_is_refused_by_name(cache: Cache, made: Callable[[], Any]) -> None:
    @cache.cached("5m")
    def load() -> Any:
        return made()

    @cache.cached("5m")
    async def aload() -> Any:
        return made()

    for _ in range(2):
        with pytest.raises(TypeError, match=r"load .*(an iterator|to be awaited|without await)"):
            load()
        with pytest.raises(TypeError, match=r"aload is (an iterator|something to be awaited) \("):
            asyncio.run(awaited(aload()))
    for store in (cache.sync.set, cache.sync.add):
        with pytest.raises(TypeError, match="the value is"):
            store("key", made())
    assert cache.stats().entries == 0


def test_an_answer_that_somebody_forgot_to_await_is_refused(cache: Cache) -> None:
    @cache.cached("5m")
    async def inner(n: int) -> int:
        return n

    @cache.cached("5m")
    def forgets(n: int) -> Any:
        return inner(n)

    @cache.cached("5m")
    async def aforgets(n: int) -> Any:
        return inner(n)

    for there in (False, True):
        with pytest.raises(TypeError, match=r"the result of .*\.forgets is something to be awaited"):
            forgets(1)
        with pytest.raises(TypeError, match=r"the result of .*aforgets is something to be awaited"):
            asyncio.run(awaited(aforgets(1)))
        assert asyncio.run(awaited(inner(1))) == 1, there


def test_what_many_may_read_is_kept_though_it_can_be_iterated_or_awaited(cache: Cache) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        future.set_result(1)
        for value in (range(3), "text", [1], {1: 2}.keys(), io.StringIO("shared"), itertools.count(), future):
            await cache.set("key", value)
            assert await cache.get("key") is not None

    asyncio.run(main())


def test_what_has_a_frame_weighs_its_struct_and_not_what_lies_in_it() -> None:
    coroutine = nothing()
    for framed in ((n for n in range(3)), agenerator(), coroutine):
        assert 16 < _weigh(framed) < 1_000
        assert _weigh({"rows": framed}) < 2_000
    coroutine.close()
