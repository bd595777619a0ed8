"""What functions of many cannot be, and be asked: the error names the option or argument, its value and the cure."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from origin import Table, turns
from samovar import AsyncCachedMany, Cache, ConfigError, KeyTypeError, SyncCachedMany


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


async def bulk(ids: Sequence[int], lang: str = "en") -> dict[int, str]:
    return {}


def sync_bulk(ids: Sequence[int]) -> dict[int, str]:
    return {}


async def rest(*ids: int) -> dict[int, str]:
    return {}


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (bulk, {}, "invalid items: None; name the parameter of bulk that takes the ids: ids, lang"),
        (bulk, {"items": "users"}, "invalid items: 'users'; name the parameter of bulk"),
        (bulk, {"items": 0}, "invalid items: 0"),
        (rest, {"items": "ids"}, "invalid items: 'ids'; name a parameter that takes a list"),
        (bulk, {"items": "ids", "ignore": ["ids"]}, "invalid items: 'ids'; let it be part of the key"),
        (bulk, {"items": "ids", "key": "all:{lang}"}, "invalid items: 'ids'; let it be part of the key"),
        (bulk, {"items": "ids", "window": -1}, "invalid window: -1; give seconds"),
        (bulk, {"items": "ids", "window": "soon"}, "invalid window: 'soon'; give seconds"),
        (bulk, {"items": "ids", "window": None}, "invalid window: None; give seconds"),
        (bulk, {"items": "ids", "window": True}, "invalid window: True; give seconds"),
        (sync_bulk, {"items": "ids", "window": 1}, "invalid window: 1; leave it out: sync_bulk is not async"),
        (bulk, {"items": "ids", "max_batch": 0}, "invalid max_batch: 0; give a whole number from 1"),
        (bulk, {"items": "ids", "max_batch": 1.5}, "invalid max_batch: 1.5"),
        (bulk, {"items": "ids", "loaders": "fast"}, "invalid loaders: 'fast'; give a list of functions"),
        (bulk, {"items": "ids", "loaders": [1]}, "invalid loaders: 1; give a list of functions"),
        (bulk, {"items": "ids", "loaders": [sync_bulk]}, "it is called as sync_bulk(ids, lang)"),
        (sync_bulk, {"items": "ids", "loaders": [bulk]}, "give one that is not async"),
        (
            bulk,
            {"items": "ids", "chain_error": "ignore", "loaders": [bulk]},
            "invalid chain_error: 'ignore'; give 'stop'",
        ),
        (bulk, {"items": "ids", "chain_error": "skip"}, "invalid chain_error: 'skip'; add loaders="),
        (bulk, {"items": "ids", "maxbatch": 5}, "unknown option maxbatch= for @cached_many; did you mean max_batch=?"),
        (sync_bulk, {"items": "ids", "early": True}, "invalid early: True; leave it out"),
        (bulk, {"items": "ids", "refresh": sync_bulk}, "invalid refresh: "),
    ],
)
def test_an_option_that_cannot_be_is_named_with_its_value_and_the_cure(
    cache: Cache, function: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        cache.cached_many("10m", **options)(function)
    assert message in str(caught.value)


def test_generators_and_bare_use_are_refused(cache: Cache) -> None:
    def generator(ids: Sequence[int]) -> Any:
        yield ids

    with pytest.raises(TypeError, match="generator"):
        cache.cached_many("10m", items="ids")(generator)
    with pytest.raises(ConfigError, match="invalid items"):
        cache.cached_many(bulk)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="make one first"):
        Cache.cached_many("10m", items="ids")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("abc", "ids of bulk must be several ids, not 'abc'; give a list: ['abc']"),
        (b"abc", "must be several ids, not b'abc'"),
        (7, "ids of bulk must be several ids, not 7; give a list: [7]"),
        ([1, [2]], "[2] cannot be one of several ids"),
    ],
)
def test_what_is_not_several_ids_is_refused(cache: Cache, ids: Any, message: str) -> None:
    for decorated in (cache.cached_many("1m", items="ids")(bulk), cache.cached_many("1m", items="ids")(sync_bulk)):

        async def main(decorated: Any = decorated) -> None:
            with pytest.raises(KeyTypeError) as caught:
                await decorated(ids)
            assert message.replace("bulk", decorated.__name__) in str(caught.value)

        run(main)


def test_an_id_that_cannot_be_a_key_loads_nothing_and_leaves_nothing(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", key="user:{ids}")(table.load)

    async def main() -> None:
        with pytest.raises(KeyTypeError, match="cannot be part of a key"):
            await users([1, 2, frozenset({object()})])
        await turns()
        assert table.calls == []

    run(main)


def test_arguments_that_do_not_fit_are_the_functions_own_error(cache: Cache) -> None:
    users, now = cache.cached_many("1m", items="ids")(bulk), cache.cached_many("1m", items="ids")(sync_bulk)

    async def main() -> None:
        for answer in (lambda: users([1], wrong=1), lambda: users(lang="en"), lambda: users([1], "en", 3)):
            with pytest.raises(TypeError, match="argument"):
                await answer()  # type: ignore[call-arg]
        await turns()

    run(main)
    for call in (lambda: now([1], wrong=1), lambda: now(), lambda: now([1], 2)):
        with pytest.raises(TypeError, match="argument"):
            call()  # type: ignore[call-arg]


def test_both_kinds_are_told_apart(cache: Cache) -> None:
    assert isinstance(cache.cached_many(ttl="1m", items="ids")(sync_bulk), SyncCachedMany)
    assert isinstance(cache.cached_many(items="ids")(bulk), AsyncCachedMany)
