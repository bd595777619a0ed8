"""Tags: where a value gets them from, what invalidating and expiring by them does, and what they reach.

In memory alone and over a real Redis, in both faces. What other processes see of it is in test_coherence.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from faces import Face
from origin import Origin, Table, turns, until
from samovar import Cache, ConfigError, NotFound, Policy, Rule
from samovar.testing import CacheClock
from servers import RedisServer
from tiers import a_face, a_server, keys_of  # noqa: F401 - fixtures
from watching import whole

Make = Callable[..., Cache]
#: What is never jittered nor loaded early.
STEADY = Policy(early=False, jitter=0)


@pytest.fixture(name="make", params=["memory", "redis"])
def a_make(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[Make]:
    made: list[Cache] = []
    url = "memory://"
    if request.param == "redis":
        assert server.ask("FLUSHALL") == b"+OK\r\n"
        url = server.url

    def make(**options: Any) -> Cache:
        cache = Cache(url, **{"name": "app", **options})
        made.append(cache)
        return cache

    yield make
    for cache in made:
        whole(cache)
        asyncio.run(cache.close())


def tags_of(face: Face, cache: Cache, key: str) -> set[str]:
    entry = face.do(cache, "peek", key)
    assert entry is not None, key
    assert len(set(entry.tags)) == len(entry.tags)
    return set(entry.tags)


def is_there(face: Face, cache: Cache, key: str) -> bool:
    """Every way of asking says the same."""
    there = face.do(cache, "get", key) is not None
    assert face.do(cache, "contains", key) is there
    assert (face.do(cache, "peek", key) is not None) is there
    assert (face.do(cache, "ttl", key) is not None) is there
    assert (key in face.do(cache, "get_many", [key])) is there
    assert (key in face.do(cache, "keys")) is there
    return there


# --- where they come from ---------------------------------------------------------------------------------------------


def test_set_gives_a_value_tags_and_the_next_set_other_ones(face: Face, make: Make) -> None:
    cache = make()
    face.do(cache, "set", "k", 1, tags=["a", "b", "a"])
    assert tags_of(face, cache, "k") == {"a", "b"}
    face.do(cache, "set", "k", 2, "1m", tags=("c",))
    assert tags_of(face, cache, "k") == {"c"}
    face.do(cache, "invalidate_tags", "a", "b")
    assert face.do(cache, "get", "k") == 2
    face.do(cache, "set", "k", 3)
    assert tags_of(face, cache, "k") == set()
    face.do(cache, "invalidate_tags", "c")
    assert face.do(cache, "get", "k") == 3


@dataclass
class Tea:
    owner: str
    sorts: list[str]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["users"], {"users"}),
        (["user:{user}"], {"user:7"}),
        (["user:{user}", "users", "{kind}"], {"user:7", "users", "plain"}),
        (["owner:{result.owner}"], {"owner:ann"}),
        (["sort:{result.sorts[0]}"], {"sort:black"}),
        (["{{literally}}"], {"{literally}"}),
        (["{user:03d}"], {"007"}),
        (["{user}", "{result.owner}", "{user}"], {"7", "ann"}),
        (lambda value, *args: [f"by:{value.owner}", f"for:{args[0]}"], {"by:ann", "for:7"}),
        (lambda value, user, kind="plain": (f"{kind}-{user}",), {"plain-7"}),
        (lambda *_: iter(["a", "a"]), {"a"}),
        (lambda *_: [], set()),
        ([], set()),
        ((), set()),
        (None, set()),
    ],
    ids=repr,
)
def test_a_functions_tags_are_templates_of_arguments_and_result_or_a_callable(
    face: Face, make: Make, tags: Any, expected: set[str]
) -> None:
    cache = make()

    @cache.cached("1m", key="tea:{user}", tags=tags, type=Tea)
    @face.function
    def tea(user: int, kind: str = "plain") -> Tea:
        return Tea("ann", ["black", "green"])

    for call in ((7,), (7, "plain")):
        face.call(tea, *call)
        assert tags_of(face, cache, "tea:7") == expected
    assert set(face.call(tea.peek, 7).tags) == expected


def test_an_argument_called_result_is_the_argument(face: Face, make: Make) -> None:
    cache = make()
    f = cache.cached("1m", key="k:{result}", tags=["r:{result}"])(face.function(lambda result: result * 2))
    assert face.call(f, 2) == 4
    assert tags_of(face, cache, "k:2") == {"r:2"}


def test_what_speaks_of_the_result_is_left_out_where_there_is_none(face: Face, make: Make) -> None:
    cache = make(policy=Policy(negative_ttl="1m"))
    answers: dict[int, Any] = {1: None, 2: SimpleNamespace(owner="ann")}

    @cache.cached("1m", key="k:{n}", tags=["n:{n}", "owner:{result.owner}"], codec="msgpack")
    @face.function
    def find(n: int) -> Any:
        if n not in answers:
            raise NotFound(n)
        return answers[n]

    assert face.call(find, 1) is None
    assert tags_of(face, cache, "k:1") == {"n:1"}
    with pytest.raises(NotFound):
        face.call(find, 3)
    assert tags_of(face, cache, "k:3") == {"n:3"}


@pytest.mark.parametrize("where", ["cache", "namespace", "function", "call", "rule"])
def test_policy_and_rule_have_tags_too_and_who_says_more_wins(face: Face, make: Make, where: str) -> None:
    below = Policy(tags=["of the policy"])
    cache = make(policy=below, rules=[Rule("ruled:*", tags=["of the rule", "{result}"])])
    name = "ruled:k" if where == "rule" else "k"
    if where == "namespace":
        cache = cache.namespace("n")
    load = face.function(lambda: "value")
    if where == "function":
        face.call(cache.cached("1m", key=name, tags=["of the function"])(load))
    elif where == "call":
        face.do(cache, "get_or_set", name, load, "1m", tags=["of the call", "{result}"])
    else:
        face.do(cache, "get_or_set", name, load, "1m")
    expected = {
        "function": {"of the function"},
        "call": {"of the call", "value"},
        "rule": {"of the rule", "value"},
    }
    assert tags_of(face, cache, name) == expected.get(where, {"of the policy"})


def test_methods_have_tags_of_their_arguments(face: Face, make: Make) -> None:
    cache = make()

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name
            self.calls = 0

        def __cache_key__(self) -> str:
            return self.name

        @cache.cached("1m", tags=["shop:{self.name}", "tea:{tea}"])
        def price(self, tea: str) -> int:
            self.calls += 1
            return self.calls

    one, other = Shop("one"), Shop("other")
    assert [one.price("a"), one.price("b"), other.price("a")] == [1, 2, 1]
    assert set(one.price.peek("a").tags) == {"shop:one", "tea:a"}
    face.do(cache, "invalidate_tags", "shop:one")
    assert [one.price("a"), one.price("b"), other.price("a")] == [3, 4, 1]
    face.do(cache, "invalidate_tags", "tea:a")
    assert [one.price("a"), one.price("b"), other.price("a")] == [5, 4, 2]


def test_a_method_of_an_instance_without_a_name_of_its_own_has_tags_in_this_process(face: Face, make: Make) -> None:
    cache = make()

    class Shop:
        calls = 0

        @cache.cached("1m", tags=["tea:{tea}"])
        def price(self, tea: str) -> int:
            self.calls += 1
            return self.calls

    shop = Shop()
    assert [shop.price("a"), shop.price("a"), shop.price("b")] == [1, 1, 2]
    face.do(cache, "invalidate_tags", "tea:a")
    assert shop.price("a") == 3
    # What is of this process alone has no stamp, so the first that is heard of a store's clock ends it.
    assert shop.price("b") in ((2,) if cache.remote_stats() is None else (2, 4))


def test_each_of_many_has_tags_of_its_own(face: Face, make: Make) -> None:
    cache, table = make(), Table()
    load = table.load if face.waits else table.load_now

    @cache.cached_many("1m", items="ids", key="row:{ids}", tags=["rows", "row:{result[0]}"])
    def rows_now(ids: list[int]) -> Any:
        return table.load_now(ids)

    @cache.cached_many("1m", items="ids", key="row:{ids}", tags=["rows", "row:{result[0]}"])
    async def rows(ids: list[int]) -> Any:
        return await table.load(ids)

    asked = rows if load == table.load else rows_now
    assert face.call(asked, [1, 2, 3]) == {1: [1, 1], 2: [2, 1], 3: [3, 1]}
    face.do(cache, "invalidate_tags", "row:2")
    assert face.call(asked, [1, 2, 3]) == {1: [1, 1], 2: [2, 2], 3: [3, 1]}
    face.do(cache, "invalidate_tags", "rows")
    assert face.call(asked, [1, 2, 3]) == {1: [1, 3], 2: [2, 3], 3: [3, 3]}


def test_get_or_set_many_gives_tags(face: Face, make: Make) -> None:
    cache, table = make(), Table()
    load = table.load if face.waits else table.load_now
    ask = ("get_or_set_many", ["a", "b"], load, "1m")
    face.do(cache, *ask, tags=["t:{result[0]}"])
    assert (tags_of(face, cache, "a"), tags_of(face, cache, "b")) == ({"t:a"}, {"t:b"})
    face.do(cache, "invalidate_tags", "t:a")
    assert face.do(cache, *ask, tags=["t:{result[0]}"]) == {"a": ["a", 2], "b": ["b", 1]}


# --- bad input --------------------------------------------------------------------------------------------------------

LONG = "t" * 513


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("users", "users"),
        (b"users", "users"),
        (5, "5"),
        ([5], "5"),
        ([""], "''"),
        ([None], "None"),
        ([b"t"], "b't'"),
        (["\ud800"], "ud800"),
        ([LONG], "512"),
        ([f"t{n}" for n in range(17)], "16"),
    ],
    ids=lambda given: repr(given)[:20],
)
def test_bad_tags_are_refused_wherever_they_are_given(face: Face, make: Make, tags: Any, said: str) -> None:
    cache = make()
    face.do(cache, "set", "k", "old")
    given: list[Callable[[], object]] = [
        lambda: face.do(cache, "set", "k", 1, tags=tags),
        lambda: cache.cached("1m", tags=tags),
        lambda: cache.cached("1m", tags=tags)(face.function(lambda: 1)),
        lambda: Policy(tags=tags),
        lambda: Rule("*", tags=tags),
        lambda: face.do(cache, "get_or_set", "k2", face.function(lambda: 1), tags=tags),
    ]
    for one in given[:1] + given[2:]:
        with pytest.raises(ConfigError, match="tags") as caught:
            one()
        assert said in str(caught.value)
        assert "; " in str(caught.value) or "give" in str(caught.value)
    assert face.do(cache, "get", "k") == "old"


@pytest.mark.parametrize("template", ["{nobody}", "{", "}", "{user", "{0}", "{}"])
def test_a_template_that_cannot_be_filled_is_refused_where_it_is_given(make: Make, template: str) -> None:
    cache = make()
    with pytest.raises(ConfigError, match="tags"):
        cache.cached("1m", tags=[template])(lambda user: user)
    with pytest.raises(ConfigError, match="tags"):
        Policy(tags=[template])


def test_a_policy_knows_no_arguments(make: Make) -> None:
    with pytest.raises(ConfigError, match="result"):
        Policy(tags=["user:{user}"])


def bad_rule(kind: str) -> Any:
    rules: dict[str, Any] = {
        "too many": lambda *_: [str(n) for n in range(17)],
        "no text": lambda *_: [7],
        "a text": lambda *_: "users",
        "nothing": lambda *_: None,
        "raises": lambda *_: 1 / 0,
        "no attribute": ["{result.missing}"],
        "empty when filled": ["{result}"],
    }
    return rules[kind]


@pytest.mark.parametrize(
    "kind", ["too many", "no text", "a text", "nothing", "raises", "no attribute", "empty when filled"]
)
def test_tags_that_turn_out_bad_fail_the_load_and_nothing_is_stored(face: Face, make: Make, kind: str) -> None:
    cache = make()
    f = cache.cached("1m", key="k", tags=bad_rule(kind))(face.function(lambda: ""))
    for _ in range(2):
        with pytest.raises((ConfigError, ZeroDivisionError, AttributeError)):
            face.call(f)
    assert face.do(cache, "peek", "k") is None
    assert face.do(cache, "keys") == []


@pytest.mark.parametrize("method", ["invalidate_tags", "expire_tags", "refresh_tags"])
@pytest.mark.parametrize("given", [(), ("",), (5,), (None,), (["a"],), ("\ud800",)], ids=repr)
def test_what_is_invalidated_has_to_be_named(face: Face, make: Make, method: str, given: tuple[Any, ...]) -> None:
    cache = make()
    with pytest.raises(ConfigError, match="tags"):
        face.do(cache, method, *given)


def test_more_tags_than_an_entry_has_can_be_invalidated_at_once(face: Face, make: Make) -> None:
    cache = make()
    for n in range(40):
        face.do(cache, "set", f"{n}", n, tags=[f"t{n}"])
    face.do(cache, "invalidate_tags", *(f"t{n}" for n in range(1, 40)), "t1", "nobody has it")
    assert face.do(cache, "keys") == ["0"]


# --- what invalidating does -------------------------------------------------------------------------------------------


def test_an_invalidated_tag_takes_away_what_has_it_and_nothing_else(face: Face, make: Make) -> None:
    cache = make()
    for key, tags in {"a": ["x"], "b": ["x", "y"], "c": ["y"], "d": []}.items():
        face.do(cache, "set", key, 1, tags=tags)
    face.do(cache, "invalidate_tags", "x")
    assert [key for key in "abcd" if is_there(face, cache, key)] == ["c", "d"]
    assert face.do(cache, "items") in ([("c", 1), ("d", 1)], [("d", 1), ("c", 1)])
    face.do(cache, "set", "a", 2, tags=["x"])
    assert is_there(face, cache, "a"), "it was written since"
    face.do(cache, "invalidate_tags", "y", "x")
    assert face.do(cache, "keys") == ["d"]


def test_what_is_gone_is_gone_for_every_operation(face: Face, make: Make) -> None:
    def gone() -> Cache:
        cache = make()
        face.do(cache, "set", "k", 5, tags=["t"])
        face.do(cache, "invalidate_tags", "t")
        return cache

    assert face.do(gone(), "add", "k", 6) is True
    assert face.do(gone(), "replace", "k", 6) is False
    assert face.do(gone(), "touch", "k", "1m") is False
    assert face.do(gone(), "incr", "k") == 1
    assert face.do(gone(), "get_or_set", "k", face.function(lambda: 7)) == 7
    assert face.do(gone(), "get_or_set_many", ["k"], face.function(lambda keys: {"k": 8})) == {"k": 8}


def test_stats_count_a_miss_and_no_hit(face: Face, make: Make) -> None:
    cache, origin = make(), Origin()
    load = face.function(origin.load_now)
    f = cache.cached("1m", key="k", tags=["t"])(load)
    assert [face.call(f), face.call(f)] == [1, 1]
    before = cache.stats()
    face.do(cache, "invalidate_tags", "t")
    assert face.call(f) == 2
    after = cache.stats()
    counted = [(new - old) for new, old in zip(after, before, strict=True)]
    assert counted[: after._fields.index("coalesced")] == [0, 0, 0, 1, 1, 0]
    assert (after.entries, after.remote_hits) == (before.entries, before.remote_hits)
    assert face.call(f) == 2
    assert cache.stats().hits == before.hits + 1


def test_expired_tags_serve_as_stale_where_that_is_of_use(face: Face, make: Make, cache_clock: CacheClock) -> None:
    cache, origin = make(policy=STEADY), Origin()
    f = cache.cached("1m", key="k", tags=["t"], stale_if_error="1m")(face.function(origin.load_now))
    assert face.call(f) == 1
    face.do(cache, "expire_tags", "t")
    origin.error = RuntimeError("down")
    assert face.call(f) == 1, "the load failed, and what is old answers"
    assert face.do(cache, "get", "k") is None, "to whoever loads nothing it is no more"
    origin.error = None
    cache_clock.advance("31s")
    assert face.call(f) == 3
    face.do(cache, "invalidate_tags", "t")
    origin.error = RuntimeError("down")
    with pytest.raises(RuntimeError):
        face.call(f)


def test_expired_without_any_use_for_what_is_stale_it_is_gone(face: Face, make: Make) -> None:
    cache, origin = make(policy=STEADY), Origin()
    f = cache.cached("1m", key="k", tags=["t"])(face.function(origin.load_now))
    assert face.call(f) == 1
    face.do(cache, "set", "s", 1, "1m", tags=["t"])
    face.do(cache, "expire_tags", "t")
    assert face.do(cache, "get", "s") is None
    assert face.do(cache, "contains", "s") is False
    assert face.do(cache, "ttl", "s") is None
    assert face.do(cache, "keys") == []
    assert face.do(cache, "peek", "s") is None or face.do(cache, "peek", "s").state == "stale"
    origin.error = RuntimeError("down")
    with pytest.raises(RuntimeError):
        face.call(f)
    origin.error = None
    assert face.call(f) == 3


@pytest.mark.parametrize("method", ["expire_tags", "refresh_tags"])
def test_expired_with_stale_while_revalidate_answers_at_once_and_is_loaded_behind(make: Make, method: str) -> None:
    async def main() -> None:
        cache, origin = make(policy=STEADY), Origin()
        f = cache.cached("1m", key="k", tags=["t"], stale_while_revalidate="1m")(alone(origin))
        assert await f() == 1
        await getattr(cache, method)("t")
        assert origin.calls == 1, "nothing is loaded before it is asked for"
        assert await f() == 1
        assert await until(lambda: origin.calls == 2)
        assert await until(lambda: cache.stats().loads == 2 and not cache._inspect()["flights"])
        assert (await f(), origin.calls) == (2, 2)

    asyncio.run(main())


# --- namespaces -------------------------------------------------------------------------------------------------------


def test_a_namespace_reaches_itself_and_what_is_below_and_never_its_like(face: Face, make: Make) -> None:
    cache = make()
    paths = {path: cache.namespace(path) for path in ("a", "ab", "b")}
    paths["a:b"] = paths["a"].namespace("b")
    paths[""] = cache
    for one in paths.values():
        face.do(one, "set", "k", 1, tags=["t"])
    left = lambda: sorted(path for path, one in paths.items() if is_there(face, one, "k"))  # noqa: E731
    face.do(paths["a"], "invalidate_tags", "t")
    assert left() == ["", "ab", "b"]
    face.do(paths["b"], "invalidate_tags", "t")
    assert left() == ["", "ab"]
    face.do(cache, "invalidate_tags", "t")
    assert left() == []


def test_clear_is_of_a_namespace_and_those_below(face: Face, make: Make) -> None:
    cache = make()
    paths = {path: cache.namespace(path) for path in ("a", "ab")}
    paths["a:b"], paths[""] = paths["a"].namespace("b"), cache
    for one in paths.values():
        face.do(one, "set", "k", 1)
    face.do(paths["a"], "clear")
    assert sorted(path for path, one in paths.items() if is_there(face, one, "k")) == ["", "ab"]
    face.do(paths["a"], "set", "k", 2)
    assert is_there(face, paths["a"], "k")
    face.do(cache, "clear")
    assert not any(is_there(face, one, "k") for one in paths.values())


@pytest.mark.parametrize(
    ("invalidated", "other"),
    [
        ("user:1", "user:10"),
        ("user:*", "user:1"),
        ("user", "user:1"),
        ("*", "a"),
        ("?", "a"),
        ("[a]", "a"),
        (".*", "a"),
        ("a:b", "a"),
        ("A", "a"),
        ("a ", "a"),
        ("a%3Ab", "a:b"),
        ("\u00e9", "e\u0301"),
        ("a\0b", "a"),
        ("a\nb", "a"),
        ("{x}", "x"),
        ("%", "%25"),
    ],
)
def test_no_character_of_a_tag_means_anything(face: Face, make: Make, invalidated: str, other: str) -> None:
    cache = make()
    face.do(cache, "set", "one", 1, tags=[invalidated])
    face.do(cache, "set", "other", 1, tags=[other])
    face.do(cache, "invalidate_tags", invalidated)
    assert (is_there(face, cache, "one"), is_there(face, cache, "other")) == (False, True)


def test_the_longest_tag_is_as_good_as_any(face: Face, make: Make) -> None:
    cache = make()
    tags = [f"{n:x}" * 512 for n in range(16)]
    face.do(cache, "set", "k", 1, tags=tags)
    assert tags_of(face, cache, "k") == set(tags)
    face.do(cache, "invalidate_tags", tags[-1])
    assert not is_there(face, cache, "k")


def test_the_first_that_a_process_does_is_to_invalidate_and_all_else_stays(face: Face, make: Make) -> None:
    cache = make()
    for key, tags in {"a": ["x"], "b": ["y"], "c": []}.items():
        face.do(cache, "set", key, 1, tags=tags)
    other = make() if cache.remote_stats() else cache
    face.do(other, "invalidate_tags", "x")
    assert [key for key in "abc" if is_there(face, other, key)] == ["b", "c"]
    assert [key for key in "abc" if is_there(face, other, key)] == ["b", "c"]


# --- loads under way --------------------------------------------------------------------------------------------------


def alone(origin: Origin) -> Callable[[], Any]:
    """Its load without parameters: what depends on some that the key does not have is loaded by nobody behind."""

    async def load() -> int:
        return await origin.load()

    return load


def loading(make: Make, **options: Any) -> tuple[Cache, Origin, Any]:
    cache, origin = make(policy=STEADY), Origin()
    origin.gate = asyncio.Event()
    return cache, origin, cache.cached("1m", key="k", tags=["t"], **options)(alone(origin))


async def released(origin: Origin) -> None:
    assert origin.gate is not None
    origin.gate.set()
    await turns()


@pytest.mark.parametrize("method", ["invalidate_tags", "expire_tags"])
def test_a_tag_that_is_invalidated_while_a_value_loads_wins(make: Make, method: str) -> None:
    async def main() -> None:
        cache, origin, f = loading(make)
        first = asyncio.ensure_future(f())
        assert await until(lambda: origin.calls == 1)
        await getattr(cache, method)("t")
        after = asyncio.ensure_future(f())
        await asyncio.sleep(0.01)
        await released(origin)
        assert await first == 1, "who waited before is answered"
        assert await after == 2, "who came after is not given what is older"
        assert await f() == 2
        assert origin.calls == 2

    asyncio.run(main())


def test_another_tag_hurts_nobody(make: Make) -> None:
    async def main() -> None:
        cache, origin, f = loading(make)
        first = asyncio.ensure_future(f())
        assert await until(lambda: origin.calls == 1)
        await cache.invalidate_tags("another")
        after = asyncio.ensure_future(f())
        await asyncio.sleep(0.01)
        await released(origin)
        assert await asyncio.gather(first, after) == [1, 1]
        assert (await f(), origin.calls) == (1, 1)

    asyncio.run(main())


def test_many_who_come_after_share_one_load(make: Make) -> None:
    async def main() -> None:
        cache, origin, f = loading(make)
        before = [asyncio.ensure_future(f()) for _ in range(5)]
        assert await until(lambda: origin.calls == 1)
        await cache.invalidate_tags("t")
        after = [asyncio.ensure_future(f()) for _ in range(50)]
        await asyncio.sleep(0.01)
        await released(origin)
        assert await asyncio.gather(*before) == [1] * 5
        assert await asyncio.gather(*after) == [2] * 50
        assert origin.calls == 2

    asyncio.run(main())


def test_it_wins_over_a_refresh_behind(make: Make) -> None:
    async def main() -> None:
        cache, origin, f = loading(make, stale_while_revalidate="1m")
        assert origin.gate is not None
        origin.gate.set()
        assert await f() == 1
        await cache.expire_tags("t")
        origin.gate = asyncio.Event()
        assert await f() == 1
        assert await until(lambda: origin.calls == 2)
        await cache.invalidate_tags("t")
        await released(origin)
        assert await f() == 3
        assert await f() == 3

    asyncio.run(main())


def test_it_wins_over_a_load_of_a_thread(make: Make) -> None:
    cache = make(policy=STEADY)
    began, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    @cache.cached("1m", key="k", tags=["t"])
    def f() -> int:
        calls.append(1)
        number = len(calls)
        if number == 1:
            began.set()
            assert go_on.wait(10)
        return number

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(f()))
    thread.start()
    assert began.wait(10)
    cache.sync.invalidate_tags("t")
    go_on.set()
    thread.join()
    assert found == [1]
    assert (f(), f()) == (2, 2)


def test_clear_wins_over_a_load(make: Make) -> None:
    async def main() -> None:
        cache, origin, f = loading(make)
        first = asyncio.ensure_future(f())
        assert await until(lambda: origin.calls == 1)
        await cache.clear()
        await released(origin)
        assert await first == 1
        assert await f() == 2

    asyncio.run(main())


# --- what becomes of them ---------------------------------------------------------------------------------------------


def test_not_found_has_tags(face: Face, make: Make) -> None:
    cache, calls = make(policy=Policy(negative_ttl="1m")), []

    @cache.cached("1m", key="k:{n}", tags=["n:{n}"])
    @face.function
    def find(n: int) -> int:
        calls.append(n)
        raise NotFound(n)

    for _ in range(3):
        with pytest.raises(NotFound):
            face.call(find, 1)
    assert calls == [1]
    face.do(cache, "invalidate_tags", "n:1")
    with pytest.raises(NotFound):
        face.call(find, 1)
    assert calls == [1, 1]


def test_touch_and_incr_keep_tags(face: Face, make: Make) -> None:
    cache = make()
    face.do(cache, "set", "k", 1, "1m", tags=["t"])
    assert face.do(cache, "incr", "k") == 2
    assert face.do(cache, "touch", "k", "2m") is True
    assert face.do(cache, "decr", "k", 5, "3m") == -3
    assert tags_of(face, cache, "k") == {"t"}
    face.do(cache, "invalidate_tags", "t")
    assert not is_there(face, cache, "k")


def test_an_entry_without_tags_is_reached_by_clear_alone(face: Face, make: Make) -> None:
    cache = make()
    face.do(cache, "set", "k", 1)
    for method in ("invalidate_tags", "expire_tags", "refresh_tags"):
        face.do(cache, method, "k", "t")
    assert is_there(face, cache, "k")


def test_refresh_loads_in_spite_of_it_and_gives_the_tags_anew(face: Face, make: Make) -> None:
    cache, origin = make(), Origin()
    f = cache.cached("1m", key="k", tags=["v{result}"])(face.function(origin.load_now))
    assert face.call(f) == 1
    assert face.call(f.refresh) == 2
    assert tags_of(face, cache, "k") == {"v2"}
    face.do(cache, "invalidate_tags", "v1")
    assert face.call(f) == 2


def test_while_a_cache_is_disabled_a_tag_can_be_invalidated(face: Face, make: Make) -> None:
    cache = make()
    face.do(cache, "set", "k", 1, tags=["t"])
    with cache.disabled():
        face.do(cache, "invalidate_tags", "t")
    assert not is_there(face, cache, "k")


def test_a_hundred_thousand_entries_of_a_tag_are_invalidated_in_one_step(face: Face) -> None:
    cache = Cache(name="app")
    for n in range(100_000):
        cache.sync.set(f"{n}", n, tags=["all", f"t{n % 10}"])
    face.do(cache, "invalidate_tags", "t3")
    assert [cache.sync.get("3"), cache.sync.get("4")] == [None, 4]
    face.do(cache, "invalidate_tags", "all")
    assert not any(cache.sync.contains(f"{n}") for n in range(0, 100_000, 997))
    assert face.do(cache, "keys") == []
    asyncio.run(cache.close())


def commands(server: RedisServer) -> dict[str, int]:
    """How often each command was called, by clients; scripts' own calls are left out."""
    lines = server.ask("INFO", "commandstats").decode().split("\r\n")
    stats = (line.removeprefix("cmdstat_").split(":") for line in lines if line.startswith("cmdstat_"))
    return {name: int(rest.split("=")[1].split(",")[0]) for name, rest in stats}


def test_at_redis_invalidating_is_one_script_however_many_have_the_tag(face: Face, server: RedisServer) -> None:
    assert server.ask("FLUSHALL") == b"+OK\r\n"
    # Nobody listens: then there are no other commands than those that are asked for.
    cache = Cache(server.url, name="app", bus=None)
    for n in range(200):
        cache.sync.set(f"{n}", n, tags=["all"])
    face.do(cache, "invalidate_tags", "another")
    before, there = commands(server), len(keys_of(server))
    face.do(cache, "invalidate_tags", "all")
    after = commands(server)
    scripts = {name: after[name] - before.get(name, 0) for name in after if name.startswith(("eval", "fcall"))}
    assert sum(scripts.values()) == 1
    assert after.get("del", 0) == before.get("del", 0)
    assert after.get("scan", 0) == before.get("scan", 0)
    assert len(keys_of(server)) == there, "nothing is removed there"
    assert face.do(cache, "get_many", [f"{n}" for n in range(200)]) == {}
    asyncio.run(cache.close())
