"""A cache with a real Redis behind its memory, by both faces: what each method and each function does, and who sees it.

Two `Cache` objects of one name are what two processes are: nothing is shared between them but the server. What happens
meanwhile is test_two_tiers_flight's, what travels test_two_tiers_values's, what goes wrong test_two_tiers_trouble's.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from faces import Face
from origin import Origin
from samovar import Cache, ConfigError, NotFound
from servers import RedisServer
from tiers import Make, a_face, a_make, a_server, keys_of  # noqa: F401 - fixtures
from watching import settled

# --- every method, by both faces --------------------------------------------------------------------------------------


def test_what_is_set_is_read_from_memory_and_from_the_store(face: Face, make: Make) -> None:
    here, there = make(), make()
    face.do(here, "set", "a", [1, 2])
    assert face.do(here, "get", "a") == face.do(there, "get", "a") == [1, 2]
    before = there.remote_stats().reads
    assert face.do(there, "get", "a") == [1, 2]
    assert there.remote_stats().reads == before, "the second time it is in memory"


def test_what_is_nowhere_gives_the_default(face: Face, make: Make) -> None:
    cache = make()
    assert face.do(cache, "get", "a") is None
    assert face.do(cache, "get", "a", 7) == 7
    assert face.do(cache, "peek", "a") is None
    assert face.do(cache, "contains", "a") is False
    assert face.do(cache, "ttl", "a") is None
    assert face.do(cache, "touch", "a", 5) is False
    assert face.do(cache, "delete", "a") is False
    assert face.do(cache, "delete_many", ["a", "b"]) == 0
    assert face.do(cache, "delete_match", "*") == 0
    assert face.do(cache, "get_many", ["a"]) == {}
    assert face.do(cache, "keys") == face.do(cache, "items") == []


def test_none_is_a_value(face: Face, make: Make) -> None:
    here, there = make(), make()
    face.do(here, "set", "a", None)
    for cache in (here, there, there):
        assert face.do(cache, "contains", "a") is True
        assert face.do(cache, "get", "a", "default") is None
        assert face.do(cache, "get_many", ["a"]) == {"a": None}
        assert face.do(cache, "peek", "a").value is None


def test_peek_tells_of_an_entry_of_either_tier_and_keeps_none(face: Face, make: Make) -> None:
    here, there = make(), make()
    face.do(here, "set", "a", 1, ttl=60)
    for cache in (here, there):
        entry = face.do(cache, "peek", "a")
        assert (entry.value, entry.state) == (1, "fresh")
        assert 59.9 < entry.fresh_until - entry.created <= 60.01
    assert there.stats().entries == 0, "peek is no use of it"


def test_ttl_and_contains_are_those_of_either_tier(face: Face, make: Make) -> None:
    here, there = make(), make()
    face.do(here, "set", "a", 1, ttl=60)
    face.do(here, "set", "b", 1, ttl=None)
    for cache in (here, there):
        assert 50 < face.do(cache, "ttl", "a") <= 60
        assert face.do(cache, "ttl", "b") == math.inf
        assert face.do(cache, "contains", "a") is True
    face.do(there, "get", "a")
    assert 50 < face.do(there, "ttl", "a") <= 60, "promoted with the life that was left"


def test_add_writes_where_nothing_is_and_replace_where_something_is(face: Face, make: Make) -> None:
    here, there = make(), make()
    assert face.do(here, "replace", "a", 0) is False
    assert face.do(here, "add", "a", 1) is True
    assert face.do(there, "add", "a", 2) is False
    assert face.do(there, "get", "a") == 1
    assert face.do(there, "replace", "a", 3) is True
    assert face.do(make(), "get", "a") == 3
    face.do(there, "delete", "a")
    assert face.do(make(), "replace", "a", 4) is False
    assert face.do(make(), "add", "a", 5) is True
    face.do(here, "set_missing", "m", ttl=60)
    assert face.do(there, "replace", "m", 1) is False, "a note that there is nothing is nothing"
    assert face.do(there, "delete", "m") is False
    face.do(here, "set_missing", "m", ttl=60)
    assert face.do(there, "delete_many", ["m"]) == 0
    face.do(here, "set_missing", "m", ttl=60)
    assert face.do(there, "delete_match", "m") == 0
    face.do(here, "set_missing", "m", ttl=60)
    assert face.do(there, "add", "m", 1) is True
    face.do(here, "set_missing", "n", ttl=60)
    assert face.do(there, "touch", "n", 60) is False
    assert face.do(there, "incr", "n") == 1
    assert face.do(make(), "get_many", ["m", "n"]) == {"m": 1, "n": 1}


def test_add_and_replace_with_no_life_do_as_a_memory_alone_does(face: Face, make: Make) -> None:
    alone = Cache(name="alone")
    for cache in (alone, make()):
        assert face.do(cache, "add", "a", 1, ttl=0) is False
        assert face.do(cache, "get", "a") is None
        face.do(cache, "set", "a", 1)
        assert face.do(cache, "add", "a", 2, ttl=0) is False
        assert face.do(cache, "get", "a") == 1
        assert face.do(cache, "replace", "a", 2, ttl=0) is True
        assert face.do(cache, "get", "a") is None
        assert face.do(cache, "replace", "a", 2, ttl=0) is False


def test_a_literal_ttl_of_zero_removes(face: Face, make: Make) -> None:
    here = make()
    face.do(here, "set", "a", 1)
    face.do(here, "set", "a", 2, ttl=0)
    for cache in (here, make()):
        assert face.do(cache, "get", "a") is None
    face.do(here, "set_many", {"b": 1, "c": 2})
    face.do(here, "set_many", {"b": 1}, ttl=0)
    assert face.do(make(), "get_many", ["b", "c"]) == {"c": 2}
    assert face.do(here, "touch", "c", 0) is True
    assert face.do(make(), "get", "c") is None


def test_deleted_is_deleted_in_both_and_counts_what_was_in_either(face: Face, make: Make) -> None:
    here, there = make(), make()
    face.do(here, "set_many", {"a": 1, "b": 2, "c": None})
    assert face.do(there, "delete", "a") is True
    assert face.do(there, "delete", "a") is False
    assert face.do(make(), "get", "a") is None
    assert face.do(there, "delete_many", ["a", "b", "c", "d", "b"]) == 2
    assert face.do(there, "delete_many", []) == 0
    assert face.do(make(), "get_many", ["a", "b", "c"]) == {}
    face.do(here, "set", "e", 1)
    face.do(here, "invalidate", "e")
    assert face.do(make(), "get", "e") is None


def test_get_many_is_one_round_trip_and_keeps_the_order_and_the_names(
    face: Face, make: Make, server: RedisServer
) -> None:
    here, there = make(), make()
    face.do(here, "set_many", {f"{n}": n for n in range(50)})
    assert face.do(there, "get", "7") == 7
    before = there.remote_stats()
    found = face.do(there, "get_many", [f"{n}" for n in range(60)])
    assert found == {f"{n}": n for n in range(50)}
    after = there.remote_stats()
    assert after.reads - before.reads == 59
    assert face.do(there, "get_many", []) == {}
    assert there.stats().entries == 50


def test_touch_gives_what_is_in_either_tier_another_life(face: Face, make: Make) -> None:
    here, there = make(), make()
    face.do(here, "set", "a", [1], ttl=60)
    assert face.do(there, "touch", "a", "1h") is True
    assert 3500 < face.do(there, "ttl", "a") <= 3600
    assert 3500 < face.do(make(), "ttl", "a") <= 3600
    assert face.do(there, "get", "a") == [1]
    face.do(here, "touch", "a", None)
    assert face.do(make(), "ttl", "a") == math.inf


def test_counters_count_in_the_store(face: Face, make: Make) -> None:
    here, there = make(), make()
    assert face.do(here, "incr", "a") == 1
    assert face.do(there, "incr", "a", 5) == 6
    assert face.do(here, "decr", "a", 2) == 4
    assert face.do(here, "get", "a") == 4
    assert face.do(make(), "get", "a") == 4
    assert face.do(here, "incr", "b", 2, ttl=60) == 2
    assert 50 < face.do(there, "ttl", "b") <= 60
    assert face.do(there, "incr", "b") == 3
    assert 50 < face.do(make(), "ttl", "b") <= 60, "its life goes on"
    assert face.do(there, "incr", "b", 2**70) == 3 + 2**70
    face.do(here, "set", "c", "text")
    for cache in (here, there):
        with pytest.raises(TypeError, match="'c'"):
            face.do(cache, "incr", "c")
        with pytest.raises(TypeError, match="give an int"):
            face.do(cache, "incr", "a", 1.5)
        with pytest.raises(TypeError, match="give an int"):
            face.do(cache, "decr", "a", "x")
    assert face.do(make(), "get", "c") == "text"


def test_get_or_set_loads_what_neither_tier_has(face: Face, make: Make) -> None:
    here, there = make(), make()
    origin = Origin()
    load = face.function(origin.load_now)
    assert face.do(here, "get_or_set", "a", load) == 1
    for cache in (here, there, there):
        assert face.do(cache, "get_or_set", "a", load) == 1
    assert origin.calls == 1
    assert face.do(there, "get", "a") == 1
    assert face.do(there, "get_or_set", "b", load, ttl=0) == 2
    assert face.do(there, "get", "b") is None
    assert face.do(here, "get", "b") is None


def test_get_or_set_many_loads_what_neither_tier_has(face: Face, make: Make) -> None:
    here, there = make(), make()
    asked: list[list[str]] = []

    def load(keys: Sequence[str]) -> dict[str, str]:
        asked.append(list(keys))
        return {key: key.upper() for key in keys if key != "none"}

    factory = face.function(load)
    assert face.do(here, "get_or_set_many", ["a", "b"], factory) == {"a": "A", "b": "B"}
    assert face.do(there, "get_or_set_many", ["b", "c", "none"], factory) == {"b": "B", "c": "C"}
    assert asked == [["a", "b"], ["c", "none"]]
    assert face.do(make(), "get_many", ["a", "b", "c", "none"]) == {"a": "A", "b": "B", "c": "C"}


def test_a_note_that_there_is_nothing_is_shared(face: Face, make: Make) -> None:
    here, there = make(), make()
    face.do(here, "set", "a", 1)
    face.do(here, "set_missing", "a", ttl=60)
    face.do(here, "set_missing_many", ["b", "c"], ttl=60)
    origin = Origin()
    for cache in (here, there):
        assert face.do(cache, "get", "a", "default") == "default"
        assert face.do(cache, "contains", "a") is False
        assert face.do(cache, "get_many", ["a", "b"]) == {}
        entry = face.do(cache, "peek", "a")
        assert entry is not None
        assert entry.state == "missing"
        with pytest.raises(NotFound):
            face.do(cache, "get_or_set", "b", face.function(origin.load_now))
        assert face.do(cache, "keys") == face.do(cache, "items") == []
    assert origin.calls == 0
    assert face.do(there, "add", "c", 1) is True, "nothing is there"


def test_a_delete_of_nothing_noted_removes_the_note(face: Face, make: Make) -> None:
    here, there, origin = make(), make(), Origin()
    face.do(here, "set_missing", "a", ttl=60)
    face.do(there, "delete", "a")
    assert face.do(there, "get_or_set", "a", face.function(origin.load_now)) == 1
    assert face.do(make(), "get", "a") == 1


def test_keys_and_items_are_the_stores_without_what_is_no_value(face: Face, make: Make) -> None:
    here, there = make(), make()
    everything = {f"{n}": n for n in range(300)} | {"x:y": 1, "ü%": 2}
    face.do(here, "set_many", everything)
    face.do(here, "set_many", {"gone": 1, "gone2": 1})
    face.do(here, "delete_many", ["gone", "gone2"])
    face.do(here, "set_missing", "nothing", ttl=60)
    for cache in (here, there):
        assert sorted(face.do(cache, "keys")) == sorted(everything)
        assert dict(face.do(cache, "items")) == everything
    assert there.stats().entries == 0, "listing is no use of it"


def test_delete_match_takes_what_fits_in_both(face: Face, make: Make) -> None:
    here, there = make(), make()
    names = {"user:1": 1, "user:2": 2, "team:1": 3, "user:*": 4, "user:1:x": 5}
    face.do(here, "set_many", names)
    face.do(there, "get_many", list(names))
    assert face.do(there, "delete_match", "user:?") == 3
    for cache in (there, make()):
        assert face.do(cache, "get_many", list(names)) == {"team:1": 3, "user:1:x": 5}
    assert face.do(there, "delete_match", "nothing*") == 0


def test_clear_takes_everything_in_both(face: Face, make: Make) -> None:
    here, there, other = make(), make(), make(name="other")
    names = [f"{n}" for n in range(2500)]
    face.do(here, "set_many", dict.fromkeys(names, 1))
    face.do(other, "set", "a", 1)
    face.do(there, "clear")
    assert face.do(there, "get_many", names) == face.do(make(), "get_many", names) == {}
    assert face.do(make(name="other"), "get", "a") == 1


def test_a_namespace_has_names_of_its_own_and_its_clear_leaves_the_others(face: Face, make: Make) -> None:
    cache = make()
    spaces = ["", "users", "users:eu", "users2", "us", "us*", "us:ers"]

    def space(cache: Cache, path: str) -> Cache:
        return cache.namespace(path) if path else cache

    for path in spaces:
        face.do(space(cache, path), "set", "k", path)
    other = make()
    for path in spaces:
        assert face.do(space(other, path), "get", "k") == path
        assert face.do(space(other, path), "keys") == ["k"]
    face.do(other.namespace("users"), "clear")
    for looked in (other, make()):
        kept = [path for path in spaces if face.do(space(looked, path), "contains", "k")]
        assert kept == ["", "users2", "us", "us*", "us:ers"]
    face.do(other, "clear")
    fresh = make()
    assert not any(face.do(space(fresh, path), "contains", "k") for path in spaces)


def test_a_cache_may_begin_in_a_namespace(face: Face, make: Make) -> None:
    here, there = make(namespace="eu"), make()
    face.do(here, "set", "k", 1)
    assert face.do(there, "get", "k") is None
    assert face.do(there.namespace("eu"), "get", "k") == 1


def test_keys_of_any_text_meet_nowhere(face: Face, make: Make) -> None:
    here, there = make(), make()
    names = ["a:b", "a", "b", "%3A", ":", "%", "a%3Ab", "ä", "a" * 500, "a" * 499 + "b", " ", "\n", "\0", "{x}", "*"]
    face.do(here, "set_many", {name: name for name in names})
    assert face.do(there, "get_many", names) == {name: name for name in names}
    for name in names:
        assert face.do(make(), "get", name) == name
    for cache in (here, there):
        for bad in (1, b"a", None, "\ud800"):
            for method in ("get", "delete", "contains", "ttl", "peek", "incr", "touch"):
                with pytest.raises((TypeError, ValueError)):
                    face.do(cache, method, bad)


def test_while_it_is_disabled_neither_tier_is_asked_or_written(face: Face, make: Make) -> None:
    cache, origin = make(), Origin()
    face.do(cache, "set_many", {"a": 1, "n": 1})
    there = make()
    before = there.remote_stats()
    with there.disabled():
        assert face.do(there, "get", "a", "default") == "default"
        assert face.do(there, "contains", "a") is False
        assert face.do(there, "ttl", "a") is None
        assert face.do(there, "peek", "a") is None
        assert face.do(there, "get_many", ["a", "n"]) == {}
        assert face.do(there, "add", "b", 1) is False
        assert face.do(there, "get_or_set", "a", face.function(origin.load_now)) == 1
        after = there.remote_stats()
        assert (after.reads, after.claims, after.writes) == (before.reads, before.claims, before.writes)
    assert face.do(there, "get", "a") == 1
    assert face.do(make(), "get", "b") is None


def test_a_write_while_it_is_disabled_leaves_nothing_old_behind(face: Face, make: Make) -> None:
    cache = make()
    face.do(cache, "set_many", {"a": 1, "b": 1, "c": 1, "d": 1})
    there = make()
    with there.disabled():
        face.do(there, "set", "a", 2)
        face.do(there, "set_many", {"b": 2})
        assert face.do(there, "replace", "c", 2) is True
        assert face.do(there, "delete", "d") is True
    assert face.do(make(), "get_many", ["a", "b", "c", "d"]) == {}


# --- functions --------------------------------------------------------------------------------------------------------


class Spy:
    """What a function was called with, and what it then gives."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        return [*args, len(self.calls)]


def test_a_function_with_a_template_has_its_entries_under_that_name(face: Face, make: Make) -> None:
    here, there = make(), make()
    spy = Spy()

    def user(user_id: int, lang: str = "en") -> list[Any]:
        return spy(user_id, lang)  # type: ignore[no-any-return]

    first = here.cached("5m", key="user:{user_id}:{lang}")(face.function(user))
    second = there.cached("5m", key="user:{user_id}:{lang}")(face.function(user))
    assert face.call(first, 7) == [7, "en", 1]
    assert face.call(second, 7) == face.call(second, user_id=7, lang="en") == [7, "en", 1]
    assert face.do(make(), "get", "user:7:en") == [7, "en", 1]
    assert first.key(7) == "user:7:en"
    face.do(there, "delete", "user:7:en")
    assert face.call(second, 7) == [7, "en", 2]
    assert settled(lambda: face.call(first, 7) == [7, "en", 2]), "it has heard of that"
    assert face.call(first, 7, "d:e*") == [7, "d:e*", 3]
    assert face.call(second, 7, "d:e*") == [7, "d:e*", 3]


def test_a_plain_function_shares_its_entries_by_its_arguments(face: Face, make: Make) -> None:
    here, there, spy = make(), make(), Spy()

    def f(a: Any, *more: Any, b: Any = None, **named: Any) -> Any:
        return spy(str(a), str(more), str(b), str(named))

    first, second = (cache.cached("5m")(face.function(f)) for cache in (here, there))
    different = [1, True, 1.0, "1", b"1", None, (1,), [1], {"a": 1}, {1}, 2**80, -0.0, 0.0, float("nan"), "", ("1", 1)]
    for one in different:
        face.call(first, one)
    assert len(spy.calls) == len(different)
    for one in different:
        face.call(second, one)
    face.call(second, 1, b=None)
    face.call(second, a=1)
    assert len(spy.calls) == len(different)
    face.call(first, 1, 2, b=3, c=4)
    face.call(second, 1, 2, c=4, b=3)
    assert len(spy.calls) == len(different) + 1


def test_arguments_that_have_no_encoding_keep_an_entry_here(face: Face, make: Make, server: RedisServer) -> None:
    here, there, spy = make(), make(), Spy()

    class Odd:
        pass

    def f(odd: Odd) -> int:
        spy()
        return len(spy.calls)

    odd = Odd()
    first, second = (cache.cached("5m")(face.function(f)) for cache in (here, there))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert face.call(first, odd) == face.call(first, odd) == 1
        assert face.call(second, odd) == 2
        face.call(second.invalidate, odd)
        assert face.call(second, odd) == 3
    assert keys_of(server) == []


def test_what_is_done_with_a_functions_entries_is_done_in_both(face: Face, make: Make) -> None:
    here, there, spy = make(), make(), Spy()

    def f(a: int) -> Any:
        return spy(a)

    first, second = (cache.cached("5m")(face.function(f)) for cache in (here, there))
    assert face.call(first, 1) == [1, 1]
    entry = face.call(second.peek, 1)
    assert (entry.value, entry.state) == ([1, 1], "fresh")
    face.call(second.set, ["set"], 1)
    third = make().cached("5m")(face.function(f))
    assert face.call(third, 1) == ["set"]
    assert face.call(third.refresh, 1) == [1, 2]
    assert face.call(make().cached("5m")(face.function(f)), 1) == [1, 2]
    assert face.call(third, 1) == [1, 2]
    face.call(second.invalidate, 1)
    assert face.call(second.peek, 1) is None
    assert face.call(second, 1) == [1, 3]
    assert face.call(second.uncached, 1) == [1, 4]
    assert face.call(make().cached("5m")(face.function(f)), 1) == [1, 3]


@pytest.mark.parametrize("key", [None, "user:{a}"])
def test_invalidate_all_takes_the_functions_entries_and_no_others(face: Face, make: Make, key: str | None) -> None:
    options = {} if key is None else {"key": key}
    here, spy = make(), Spy()

    def f(a: int) -> Any:
        return spy("f", a)

    def g(a: int) -> Any:
        return spy("g", a)

    first, other = here.cached("5m", **options)(face.function(f)), here.cached("5m", key="team:{a}")(face.function(g))
    face.do(here, "set", "us", 1)
    for n in range(20):
        face.call(first, n)
        face.call(other, n)
    there = make()
    second = there.cached("5m", **options)(face.function(f))
    for n in range(20):
        face.call(second, n)
    assert len(spy.calls) == 40
    face.call(second.invalidate_all)
    for n in range(20):
        face.call(second, n)
    assert len(spy.calls) == 60
    fresh = make().cached("5m", key="team:{a}")(face.function(g))
    for n in range(20):
        face.call(fresh, n)
    assert len(spy.calls) == 60
    assert face.do(make(), "get", "us") == 1


def test_a_function_in_a_namespace_and_of_a_version_has_entries_apart(face: Face, make: Make) -> None:
    spy = Spy()

    def f(a: int) -> Any:
        return spy(a)

    variants: list[dict[str, Any]] = [{}, {"version": 2}, {"namespace": "eu"}, {"key": "{a}"}]
    variants += [{"key": "{a}", "namespace": "eu"}, {"version": 2, "namespace": "eu"}]
    for _ in range(2):
        for options in variants:
            face.call(make().cached("5m", **options)(face.function(f)), 1)
        assert len(spy.calls) == len(variants)


def test_a_key_callable_and_ignored_parameters_name_the_entry(face: Face, make: Make) -> None:
    spy = Spy()

    def f(a: int, b: object) -> Any:
        return spy(a)

    for options in ({"ignore": ["b"]}, {"key": lambda a: (a, "x")}):
        for n in range(3):
            assert face.call(make().cached("5m", **options)(face.function(f)), 1, object()) == [1, len(spy.calls)], n
    assert len(spy.calls) == 2


def test_methods_without_a_cache_key_are_of_this_process(face: Face, make: Make, server: RedisServer) -> None:
    cache, spy = make(), Spy()

    class Thing:
        def method(self: Any, a: int) -> Any:
            return spy(a)

        method = cache.cached("5m")(face.function(method))

    thing, other = Thing(), Thing()
    assert face.call(thing.method, 1) == face.call(thing.method, 1) == [1, 1]
    assert face.call(other.method, 1) == [1, 2]
    assert keys_of(server) == []
    face.call(thing.method.invalidate, 1)
    assert face.call(thing.method, 1) == [1, 3]
    assert face.call(thing.method.peek, 1).value == [1, 3]
    face.call(thing.method.set, "set", 1)
    assert face.call(thing.method, 1) == "set"
    assert keys_of(server) == []


def test_methods_with_a_cache_key_are_shared(face: Face, make: Make) -> None:
    spy = Spy()

    def make_class(cache: Cache) -> Any:
        class Thing:
            def __init__(self, name: str) -> None:
                self.name = name

            def __cache_key__(self) -> str:
                return self.name

            def method(self: Any, a: int) -> Any:
                return spy(a)

            method = cache.cached("5m")(face.function(method))

        return Thing

    first, second = make_class(make()), make_class(make())
    assert face.call(first("x").method, 1) == face.call(second("x").method, 1) == [1, 1]
    assert face.call(second("y").method, 1) == [1, 2]
    face.call(second("x").method.invalidate, 1)
    assert face.call(make_class(make())("x").method, 1) == [1, 3]


def test_a_second_function_of_one_name_is_refused(face: Face, make: Make) -> None:
    cache = make()

    def one() -> Any:
        def f(a: int) -> int:
            return a

        return f

    def two() -> Any:
        def f(a: int) -> int:
            return -a

        return f

    a, b = one(), two()
    b.__qualname__ = a.__qualname__
    kept = cache.cached("5m")(face.function(a))
    with pytest.raises(ConfigError, match=r"two functions are called .* give one of them another name"):
        cache.cached("5m")(face.function(b))
    cache.cached("5m", namespace="apart")(face.function(b))
    cache.cached("5m")(face.function(a))
    assert kept is not None


def test_functions_of_many_share_each_id(face: Face, make: Make) -> None:
    asked: list[list[int]] = []

    def users(ids: Sequence[int], lang: str = "en") -> Mapping[int, str]:
        asked.append(list(ids))
        return {one: f"{one}{lang}" for one in ids if one < 100}

    first, second = (make().cached_many("10m", items="ids", negative_ttl=60)(face.function(users)) for _ in range(2))
    assert face.call(first, [1, 2, 100]) == {1: "1en", 2: "2en"}
    assert face.call(second, [2, 3, 100]) == {2: "2en", 3: "3en"}
    assert face.call(second, [1, 2, 3, 100], "en") == {1: "1en", 2: "2en", 3: "3en"}
    assert asked == [[1, 2, 100], [3]]
    assert face.call(first, [1], "de") == {1: "1de"}
    assert face.call(second, [1], lang="de") == {1: "1de"}


@pytest.mark.parametrize("raised", [True, False])
def test_what_is_not_found_is_not_looked_for_again_anywhere(face: Face, make: Make, raised: bool) -> None:
    calls: list[int] = []

    def f(a: int) -> Any:
        calls.append(a)
        if raised:
            raise NotFound(f"no {a}")
        return NotFound

    first, second = (make().cached("5m", negative_ttl=60)(face.function(f)) for _ in range(2))
    first_told = None
    for function in (first, first, second, second):
        if raised:
            with pytest.raises(NotFound) as told:
                face.call(function, 1)
            assert told.value is not first_told
            first_told = told.value
        else:
            assert face.call(function, 1) is NotFound
    assert calls == [1]
    without = make().cached("5m")(face.function(f))
    if raised:
        with pytest.raises(NotFound):
            face.call(without, 1)


def test_without_a_negative_ttl_not_found_is_no_entry(face: Face, make: Make) -> None:
    calls: list[int] = []

    def f(a: int) -> Any:
        calls.append(a)
        raise NotFound("no")

    for _ in range(3):
        function = make().cached("5m")(face.function(f))
        with pytest.raises(NotFound, match="no"):
            face.call(function, 1)
    assert len(calls) == 3


def test_errors_that_are_kept_are_of_this_process(face: Face, make: Make) -> None:
    calls: list[int] = []

    def f(a: int) -> Any:
        calls.append(a)
        raise ValueError("no")

    here, there = (make().cached("5m", cache_errors={ValueError: "1m"})(face.function(f)) for _ in range(2))
    for function in (here, here, there):
        with pytest.raises(ValueError, match="no"):
            face.call(function, 1)
    assert len(calls) == 2


def test_cache_if_and_a_ttl_callable_decide_for_both(face: Face, make: Make) -> None:
    spy = Spy()

    def f(a: int) -> Any:
        spy(a)
        return a

    def once(value: int, *_: int) -> float | None:
        return {0: 0, 1: 3600, 2: None}[value]

    for _ in range(2):
        function = make().cached(ttl=once, jitter=0)(face.function(f))
        assert [face.call(function, n) for n in (0, 1, 2)] == [0, 1, 2]
    assert spy.calls == [(0,), (1,), (2,), (0,)]
    spy.calls.clear()
    for _ in range(2):
        even = make().cached("5m", namespace="even", cache_if=lambda value: value % 2 == 0)(face.function(f))
        assert [face.call(even, n) for n in (1, 2)] == [1, 2]
    assert spy.calls == [(1,), (2,), (1,)]


def test_a_loaders_error_reaches_its_caller_and_leaves_no_claim(face: Face, make: Make, server: RedisServer) -> None:
    origin = Origin()
    origin.error = ZeroDivisionError("x")
    f = make().cached("5m", key="a")(face.function(lambda: origin.load_now()))
    with pytest.raises(ZeroDivisionError) as told:
        face.call(f)
    assert told.value is origin.error
    origin.error = None
    assert face.call(make().cached("5m", key="a")(face.function(lambda: origin.load_now()))) == 2


def test_a_function_without_arguments_and_one_of_a_mutable_value(face: Face, make: Make) -> None:
    here = make()
    f = here.cached("5m", key="a")(face.function(lambda: {"x": [1]}))
    got = face.call(f)
    got["x"].append(2)
    assert face.call(f) == {"x": [1]}
    again = face.do(make(), "get", "a")
    again["x"].append(3)
    assert face.do(make(), "get", "a") == {"x": [1]}
    there = make()
    first = face.do(there, "get", "a")
    first["x"].append(4)
    assert face.do(there, "get", "a") == {"x": [1]}, "what memory keeps is its own"
