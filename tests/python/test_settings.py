"""Settings as data: caches out of a file or the environment, and what changes while they work."""

import asyncio
import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from origin import Origin
from samovar import Adaptive, Cache, CacheManager, CircuitOpen, ConfigError, Memory, Policy, Rule
from samovar.resilience import Breaker, Retry
from samovar.testing import CacheClock

SHOP = """
[policy]
ttl = "5m"
jitter = 0

[caches.sessions]
namespace = "web"
memory = {max_entries = 1000, max_bytes = "64MiB", eviction = "lru"}
policy = {ttl = "30m", stale_if_error = "1h", retry = 3, rate = "100/s"}

[caches.catalogue]

[[caches.catalogue.rules]]
match = "product:1*"
ttl = "2h"

[[caches.catalogue.rules]]
match = "product:*"
ttl = "1h"
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a settings file."""
    file = tmp_path / "samovar.toml"

    def write(text: str) -> Path:
        file.write_text(text)
        return file

    return write


def refused(what: Callable[[], object]) -> str:
    """What is said about settings that cannot be."""
    with pytest.raises(ConfigError) as caught:
        what()
    return str(caught.value)


def life(cache: Cache, key: str) -> float | None:
    """How long a value is fresh that is stored there now."""
    cache.sync.set(key, 1)
    return cache.sync.ttl(key)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_a_file_says_what_caches_there_are_and_how_they_keep_values(
    write: Callable[[str], Path], cache_clock: CacheClock
) -> None:
    manager = CacheManager.from_toml(write(SHOP))
    assert sorted(manager) == ["catalogue", "sessions"]
    sessions, catalogue = manager["sessions"], manager["catalogue"]
    assert (sessions.name, sessions.path, sessions._bounds()) == ("sessions", "web", (1000, 64 * 2**20, "lru"))
    assert (sessions.policy.stale_if_error, sessions.policy.retry, sessions.policy.jitter) == ("1h", 3, 0)
    assert life(sessions, "s") == 1800
    assert [life(catalogue, key) for key in ("product:17", "product:7", "other")] == [7200, 3600, 300]
    assert life(manager.cache("made later"), "k") == 300


def test_a_path_may_be_a_text_and_a_file_may_say_nothing(write: Callable[[str], Path]) -> None:
    assert list(CacheManager.from_toml(str(write("")))) == []


def test_tables_stand_for_objects_and_names_for_exceptions(write: Callable[[str], Path]) -> None:
    manager = CacheManager.from_toml(
        write("""
        [caches.a.policy]
        ttl = {min = "10s", max = "1h"}
        retry = {attempts = 5, base = "1ms", on = ["OSError", "asyncio.QueueEmpty"]}
        breaker = {open_for = "5s", name = "database", on = "OSError"}
        rate = {rate = "10/s", burst = 3}
        concurrency = {limit = 4, queue = 0}
        cache_errors = {LookupError = "1m", "asyncio.QueueFull" = "1h"}
        fallback = []
        soft_timeout = inf
        """)
    )
    policy = manager["a"].policy
    assert policy.ttl == Adaptive(10, 3600)
    assert repr(policy.retry) == repr(Retry(5, base="1ms"))
    assert repr(policy.breaker).startswith("<Breaker 'database': closed")
    assert policy.cache_errors == {LookupError: "1m", asyncio.QueueFull: "1h"}
    assert (policy.fallback, policy.soft_timeout) == ([], float("inf"))


def test_inf_is_no_limit(write: Callable[[str], Path], cache_clock: CacheClock) -> None:
    manager = CacheManager.from_toml(
        write("""
        [policy]
        ttl = "1m"
        [caches.kept]
        memory = {max_bytes = inf}
        policy = {ttl = inf}
        [caches.stale]
        policy = {stale_if_error = inf, negative_ttl = inf, jitter = 0}
        """)
    )
    assert life(manager["kept"], "k") == float("inf")
    assert manager["kept"]._bounds()[1] is None
    origin, stale = Origin(), manager["stale"]
    load = stale.cached(origin.load_now)
    load()
    stale.sync.set_missing("nobody")
    cache_clock.advance("9999d")
    origin.error = OSError("down")
    assert load() == 1
    assert stale.explain("nobody").state == "missing"


# Each with a text that its message begins with, after the file's path, and one that it has.
WRONG_FILES: dict[str, tuple[str, str, str]] = {
    "table": ("[chaces.a]", ": unknown key chaces", "did you mean caches?"),
    "flat": ("ttl = '5m'", ": unknown key ttl", "it belongs into policy"),
    "flat in a cache": ("[caches.a]\nttl = 5", ": caches.a: unknown key ttl", "it belongs into caches.a.policy"),
    "bound": ("[caches.a]\nmax_bytes = 5", ": caches.a: unknown key max_bytes", "it belongs into caches.a.memory"),
    "option": ("[policy]\ntll = 5", ": policy: unknown key tll", "did you mean ttl?"),
    "value": ("[caches.a.policy]\nttl = '5x'", ": caches.a.policy.ttl: invalid ttl: ", "5x"),
    "type": ("[policy]\njitter = '5%'", ": policy.jitter: invalid jitter: '5%'", "give the share"),
    "date": ("[policy]\nttl = 2026-01-01", ": policy.ttl: invalid ttl: ", "give seconds"),
    "no table": ("[caches.a]\npolicy = '5m'", ": caches.a.policy: invalid policy: '5m'", "give a table"),
    "caches": ("caches = []", ": caches: invalid caches: []", "give a table"),
    "cache": ("caches = {a = 5}", ": caches.a: invalid a: 5", "give a table"),
    "quoted": ("[caches.'a b'.policy]\nttl = -1", ': caches."a b".policy.ttl: invalid ttl: -1', "give"),
    "memory": ("[caches.a.memory]\nmax_entries = 0", ": caches.a.memory.max_entries: invalid max_entries: 0", "give"),
    "eviction": ("[caches.a.memory]\neviction = 'mru'", ": caches.a.memory.eviction: invalid eviction: 'mru'", "lru"),
    "memory key": (
        "[caches.a.memory]\nmax_entires = 1",
        ": caches.a.memory: unknown key max_ent",
        "did you mean max_e",
    ),
    "contradiction": (
        "[policy]\ntimeout = 1\n[caches.a.policy]\nsoft_timeout = 2\nstale_if_error = 9",
        ": caches.a: invalid soft_timeout: 2",
        "give less than timeout=1",
    ),
    "common": ("[policy]\nearly = true", ": policy: invalid early: 1.0", "add a ttl="),
    "rules": ("[caches.a]\nrules = 'a*'", ": caches.a.rules: invalid rules: 'a*'", "give a list"),
    "rule": ("[caches.a]\nrules = ['a*']", ": caches.a.rules[0]: invalid 0: 'a*'", "give a table"),
    "match": ("[[caches.a.rules]]\nttl = 5", ": caches.a.rules[0]: match is missing", "give a pattern"),
    "pattern": ("[[caches.a.rules]]\nmatch = 'a['", ": caches.a.rules[0].match: invalid rule: ", "classes"),
    "rule's option": ("[[caches.a.rules]]\nmatch = 'a'\nttl = -1", ": caches.a.rules[0].ttl: invalid ttl: -1", "give"),
    "guard": ("[[caches.a.rules]]\nmatch = 'a'\nretry = -2", ": caches.a.rules[0].retry: invalid", "give"),
    "namespace": ("[caches.a]\nnamespace = 'a::b'", ": caches.a.namespace: invalid namespace: 'a::b'", "give"),
    "url": ("[caches.a]\nurl = 'redis'", ": caches.a.url: invalid url: 'redis'", "give 'memory://'"),
    "redis": ("[caches.a]\nurl = 'redis://a:x'", ": caches.a.url: invalid redis url: redis://a:x", "give each host"),
    "bus": ("[caches.a]\nbus = 'redis'", ": caches.a.bus: invalid bus: 'redis'", "give 'auto'"),
    "guard's key": ("[policy]\nretry = {attemps = 1}", ": policy.retry: invalid retry: {'attemps': 1}", "attempts"),
    "guard's value": ("[policy]\nretry = {attempts = 0}", ": policy.retry: invalid attempts: 0", "give"),
    "adaptive": ("[policy]\nttl = {min = 5}", ": policy.ttl: invalid ttl: {'min': 5}", "its keys are min, max"),
    "adaptive order": ("[policy]\nttl = {min = 5, max = 4}", ": policy.ttl: invalid max: 4", "give at least min"),
    "exception": ("[policy]\ncache_errors = {Lokup = 5}", ": policy.cache_errors: invalid cache_errors: 'Lok", "give"),
    "no exception": ("[policy]\ncache_errors = {print = 5}", ": policy.cache_errors: invalid cache_errors", "give"),
    "syntax": (
        "[policy]\nttl = 5m",
        "invalid settings file: ",
        "correct it: Expected newline or end of document after a ",
    ),
}


@pytest.mark.parametrize(("text", "begins", "has"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_what_is_wrong_in_a_file_is_said_with_its_key_its_value_and_the_cure(
    write: Callable[[str], Path], text: str, begins: str, has: str
) -> None:
    file = write(text)
    said = refused(lambda: CacheManager.from_toml(file))
    assert said.startswith(f"{file}{begins}" if begins.startswith(":") else f"{begins}{str(file)!r}"), said
    assert has in said, said


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = refused(lambda: CacheManager.from_toml(tmp_path / "none.toml"))
    assert "none.toml" in said
    assert "give a file that can be read" in said
    assert "give the path" in refused(lambda: CacheManager.from_toml(5))  # type: ignore[arg-type]


# --- Variables --------------------------------------------------------------------------------------------------------


def test_variables_say_what_files_do_one_value_each(cache_clock: CacheClock) -> None:
    manager = CacheManager.from_env(
        {
            "SAMOVAR_TTL": "5m",
            "SAMOVAR_JITTER": "0",
            "SAMOVAR_SOFT_TIMEOUT": "1s",
            "SAMOVAR_STALE_IF_ERROR": "1h",
            "SAMOVAR_SESSIONS_TTL": "inf",
            "SAMOVAR_SESSIONS_MAX_ENTRIES": "1000",
            "SAMOVAR_SESSIONS_MAX_BYTES": "1MiB",
            "SAMOVAR_SESSIONS_EVICTION": "lru",
            "SAMOVAR_SESSIONS_NAMESPACE": "web",
            "SAMOVAR_USER_PAGES_TTL": '{min = "10s", max = "1h"}',
            "SAMOVAR_USER_PAGES_EARLY": "True",
            "PATH": "/bin",
            "SAMOVARIUM": "1",
        }
    )
    assert sorted(manager) == ["sessions", "user_pages"]
    sessions = manager["sessions"]
    assert (sessions.path, sessions._bounds()) == ("web", (1000, 2**20, "lru"))
    assert (life(sessions, "k"), sessions.policy.soft_timeout) == (float("inf"), "1s")
    assert (manager["user_pages"].policy.ttl, manager["user_pages"].policy.early) == (Adaptive(10, 3600), 1)
    assert life(manager.cache("other"), "k") == 300


def test_variables_are_over_the_file_that_one_of_them_names(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, cache_clock: CacheClock
) -> None:
    monkeypatch.setenv("SAMOVAR_TOML", str(write(SHOP + "[caches.user-pages]")))
    monkeypatch.setenv("SAMOVAR_SESSIONS_TTL", "1m")
    monkeypatch.setenv("SAMOVAR_SESSIONS_MAX_ENTRIES", "7")
    monkeypatch.setenv("SAMOVAR_DEFAULT_TTL", "2m")
    monkeypatch.setenv("SAMOVAR_USER_PAGES_TTL", "3m")
    manager = CacheManager.from_env()
    assert sorted(manager) == ["catalogue", "default", "sessions", "user-pages"]
    assert [life(manager[name], "k") for name in ("sessions", "default", "user-pages")] == [60, 120, 180]
    assert manager["sessions"]._bounds() == (7, 64 * 2**20, "lru")
    assert manager["sessions"].policy.stale_if_error == "1h"


WRONG_VARIABLES: dict[str, tuple[dict[str, str], str]] = {
    "value": ({"SAMOVAR_TTL": "5x"}, "SAMOVAR_TTL: invalid ttl: .*5x"),
    "cache's value": ({"SAMOVAR_A_MAX_ENTRIES": "many"}, "SAMOVAR_A_MAX_ENTRIES: invalid max_entries: 'many'; give"),
    "plain": ({"SAMOVAR_A_NAMESPACE": "5"}, "SAMOVAR_A_NAMESPACE: invalid namespace: 5; give a text"),
    "url": ({"SAMOVAR_A_URL": "redis"}, "SAMOVAR_A_URL: invalid url: 'redis'; give 'memory://'"),
    "unknown": ({"SAMOVAR_SESSIONS_TLL": "5"}, r"variable SAMOVAR_SESSIONS_TLL; did you mean SAMOVAR_SESSIONS_TTL\?"),
    "misspelt": ({"SAMOVAR_NEGATVE_TTL": "5"}, r"did you mean SAMOVAR_NEGATIVE_TTL\?"),
    "case": ({"SAMOVAR_sessions_ttl": "5"}, r"did you mean SAMOVAR_SESSIONS_TTL\?"),
    "no cache": ({"SAMOVAR_MAX_BYTES": "5"}, "name the cache: SAMOVAR_DEFAULT_MAX_BYTES"),
    "nonsense": ({"SAMOVAR_X": "5"}, "unknown variable SAMOVAR_X; known are such as SAMOVAR_TTL"),
    "nameless": ({"SAMOVAR__TTL": "5"}, r"unknown variable SAMOVAR__TTL; did you mean SAMOVAR_TTL\?"),
    "contradiction": (
        {"SAMOVAR_A_TIMEOUT": "1", "SAMOVAR_A_SOFT_TIMEOUT": "2", "SAMOVAR_A_STALE_IF_ERROR": "1"},
        r"environment: caches.a \(SAMOVAR_A_SOFT_TIMEOUT, .*SAMOVAR_A_TIMEOUT\): invalid soft_timeout: 2; give less",
    ),
    "no file": ({"SAMOVAR_TOML": ""}, "SAMOVAR_TOML: invalid settings file: ''; give a file"),
}


@pytest.mark.parametrize(("environ", "message"), WRONG_VARIABLES.values(), ids=WRONG_VARIABLES)
def test_what_is_wrong_in_the_environment_is_said_with_the_variable_and_the_cure(
    environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CacheManager.from_env(environ)


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("SAMOVAR_SESIONS_TTL", r"SAMOVAR_SESIONS_TTL; did you mean SAMOVAR_SESSIONS_TTL\?"),
        ("SAMOVAR_SOFT_TIMEOUT", "it may mean policy.soft_timeout or caches.soft.policy.timeout; write that"),
        ("SAMOVAR_SESSIONS_TTL", "SAMOVAR_SESSIONS_TTL: invalid ttl: "),
        ("SAMOVAR_BAD_TTL", r"samovar.toml: caches.bad \(SAMOVAR_BAD_TTL\): invalid bad: 5; give a table"),
    ],
)
def test_with_a_file_variables_name_the_caches_of_the_file(
    write: Callable[[str], Path], variable: str, message: str
) -> None:
    file = write("caches = {bad = 5}" if "BAD" in variable else f"{SHOP}[caches.soft]")
    with pytest.raises(ConfigError, match=message):
        CacheManager.from_env({"SAMOVAR_TOML": str(file), variable: "5x"})


# --- While caches work ------------------------------------------------------------------------------------------------


def test_policies_rules_and_bounds_change_while_caches_work(
    write: Callable[[str], Path], cache_clock: CacheClock
) -> None:
    manager = CacheManager.from_toml(write(SHOP))
    sessions, catalogue = manager["sessions"], manager["catalogue"]
    manager.configure(
        {
            "sessions": {"memory": {"max_entries": 5}, "policy": {"ttl": "1m"}},
            "catalogue": {"rules": [{"match": "p*", "ttl": 7}, Rule("q*", ttl=8)]},
            "new": {"policy": Policy(ttl=9)},
        }
    )
    assert manager["sessions"] is sessions
    assert sessions._bounds() == (5, 64 * 2**20, "lru"), "what is left out stays"
    assert (life(sessions, "k"), sessions.policy.stale_if_error) == (60, None), "a policy is replaced whole"
    assert [life(catalogue, key) for key in ("product:1", "q", "other")] == [7, 8, 300]
    assert life(manager["new"], "k") == 9
    assert sessions.policy.jitter == 0, "the common policy is below"
    manager.configure({"catalogue": {"rules": []}}, policy={"ttl": "2m"})
    assert [life(manager[name], "p") for name in manager] == [60, 120, 9]
    assert life(manager.cache("later"), "k") == 120


def test_a_file_can_be_read_again(write: Callable[[str], Path], cache_clock: CacheClock) -> None:
    manager = CacheManager.from_toml(write(SHOP))
    manager.configure(toml=write(SHOP.replace("30m", "40m").replace("1000", "10")))
    assert life(manager["sessions"], "k") == 2400
    assert manager["sessions"]._bounds()[0] == 10
    assert "toml" in refused(lambda: manager.configure({}, toml="x.toml"))


def test_functions_follow_the_policy_of_their_cache_in_what_they_do_not_say(
    write: Callable[[str], Path], cache_clock: CacheClock
) -> None:
    manager = CacheManager.from_toml(write("[policy]\nttl = '1m'\njitter = 0\n[caches.a]"))
    cache, origin = manager["a"], Origin()

    @cache.cached(stale_if_error="10s")
    def load(n: int) -> int:
        return origin.load_now()

    @cache.namespace("inner").cached("1h")
    async def other(n: int) -> int:
        return await origin.load()

    def lives() -> list[float]:
        entries = [load.peek(1), asyncio.run(other.peek(1))]
        return [entry.fresh_until - entry.created for entry in entries if entry and entry.fresh_until]

    load(1)
    asyncio.run(other(1))
    assert lives() == [60, 3600]
    manager.configure(policy={"ttl": "5m", "stale_if_error": "1h", "jitter": 0})
    assert lives() == [60, 3600], "what is stored keeps its ttl"
    load.refresh(1)
    asyncio.run(other.refresh(1))
    assert lives() == [300, 3600]
    assert (load.policy.ttl, load.policy.stale_if_error) == ("5m", "10s")
    assert (other.policy.ttl, other.policy.stale_if_error) == ("1h", "1h")
    cache_clock.advance("90m")
    origin.error = OSError("down")
    with pytest.raises(OSError, match="down"):
        load(1)
    assert asyncio.run(other(1)) == 4, "the window of the new policy holds for old values"


def test_a_rule_stays_over_a_policy_that_is_changed(cache_clock: CacheClock) -> None:
    cache = Cache(name="ruled", policy=Policy(ttl=10, jitter=0), rules=[Rule("a*", ttl=20)])

    @cache.cached(key="{name}")
    def load(name: str) -> str:
        return name

    def lives() -> list[float | None]:
        for name in ("a", "b"):
            load.refresh(name)
        return [cache.sync.ttl(name) for name in ("a", "b")]

    assert lives() == [20, 10]
    cache.configure(policy=Policy(ttl=30, jitter=0))
    assert lives() == [20, 30]
    cache.configure(rules=[Rule("b", ttl=40)], policy=Policy(ttl=50, jitter=0))
    assert lives() == [50, 40]
    assert (cache.policy.ttl, cache.sync.get_or_set("c", lambda: 1), cache.sync.ttl("c")) == (50, 1, 50)


def test_a_loader_is_protected_anew_only_if_the_protection_changed() -> None:
    cache = Cache(name="guarded", policy=Policy(breaker=Breaker(minimum_calls=2, open_for="1h")))
    origin = Origin()
    origin.error = OSError("down")
    load = cache.cached(origin.load_now)
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            load()
    with pytest.raises(CircuitOpen):
        load()
    cache.configure(policy=Policy(ttl="1m", breaker=cache.policy.breaker))
    with pytest.raises(CircuitOpen):
        load()
    cache.configure(policy=Policy(ttl="1m", retry=Retry(attempts=3, base="1ms")))
    calls = origin.calls
    with pytest.raises(OSError, match="down"):
        load()
    assert origin.calls == calls + 3
    cache.configure(policy=Policy())
    with pytest.raises(OSError, match="down"):
        load()
    assert origin.calls == calls + 4


def test_a_policy_that_changes_while_a_function_is_being_decorated_holds_for_it() -> None:
    cache = Cache(name="meanwhile", policy=Policy(ttl=10))

    class Refresh:
        @property
        def __signature__(self) -> inspect.Signature:
            cache.configure(policy=Policy(ttl=20))
            return inspect.signature(self.__call__)

        def __call__(self, n: int) -> int:
            return n

    load = cache.cached(key="k{n}", refresh=Refresh())(lambda n: n)
    load(1)
    assert (load.policy.ttl, cache.policy.ttl) == (20, 20)
    assert 19 <= (cache.sync.ttl("k1") or 0) <= 20


def test_a_load_under_way_ends_as_it_began(cache_clock: CacheClock) -> None:
    cache = Cache(name="motion", policy=Policy(ttl=10, jitter=0))
    origin = Origin()
    load = cache.cached(key="k")(origin.load)

    async def main() -> None:
        origin.gate = asyncio.Event()
        waiting = asyncio.create_task(load())
        await asyncio.sleep(0)
        cache.configure(policy=Policy(ttl=99, jitter=0))
        origin.gate.set()
        assert await waiting == 1
        assert cache.sync.ttl("k") == 10
        await load.refresh()
        assert cache.sync.ttl("k") == 99

    asyncio.run(main())


def test_a_cache_that_was_given_to_a_manager_has_only_its_own_policy(cache_clock: CacheClock) -> None:
    manager = CacheManager({"given": Cache(policy=Policy(ttl=10))}, policy=Policy(ttl=20))
    manager.configure(policy={"ttl": 30})
    assert (life(manager["given"], "k"), life(manager.cache("made"), "k")) == (10, 30)
    manager.configure({"given": {"policy": {"jitter": 0}}})
    assert life(manager["given"], "k") == float("inf")


# Settings of which the second cache's cannot be, and what is said about it.
NOT_LIVE: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "other"}, "configure: caches.b: invalid name: 'other'; it stays 'b'"),
    "namespace": ({"namespace": "x"}, "configure: caches.b: invalid namespace: 'x'; it stays ''"),
    "weigher": ({"memory": Memory(weigher=len)}, "configure: caches.b: invalid weigher: .*leave it out"),
    "value": ({"memory": {"max_entries": -1}}, "configure: caches.b.memory.max_entries: invalid max_entries: -1"),
    "pattern": ({"rules": [{"match": "["}]}, r"configure: caches.b.rules\[0\].match: invalid rule"),
    "key": ({"polcy": {}}, r"configure: caches.b: unknown key polcy; did you mean policy\?"),
    "contradiction": ({"policy": {"soft_timeout": 1}}, "configure: caches.b.policy: invalid soft_timeout: 1; add"),
    "function": (
        {"policy": {"timeout": 1, "stale_if_error": 1}},
        "configure: caches.b.policy: .*strict: invalid soft_timeout: 2; give less than timeout=1",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), NOT_LIVE.values(), ids=NOT_LIVE)
def test_settings_of_which_one_cannot_be_change_nothing(
    wrong: dict[str, Any], message: str, cache_clock: CacheClock
) -> None:
    manager = CacheManager(policy=Policy(ttl=10, jitter=0))
    manager.configure({name: {"rules": [Rule("x", ttl=7)]} for name in ("a", "b")})

    @manager["b"].cached(soft_timeout=2, stale_if_error=5)
    def strict() -> int:
        return 1

    def state() -> list[object]:
        lives = [life(cache, key) for cache in (manager["a"], manager["b"]) for key in ("x", "k")]
        return [*lives, *(manager[name]._bounds() for name in manager), strict.policy, manager.policy, sorted(manager)]

    before = state()
    right = {"memory": {"max_entries": 5, "eviction": "lru"}, "policy": {"ttl": 1}, "rules": []}
    with pytest.raises(ConfigError, match=message):
        manager.configure({"a": right, "b": {**right, **wrong}, "c": {}}, policy={"ttl": 99})
    assert state() == before


def test_what_stays_as_it_is_may_be_said_again() -> None:
    manager = CacheManager.from_env({"SAMOVAR_A_NAMESPACE": "web", "SAMOVAR_A_URL": "memory://"})
    before = manager["a"]
    manager.configure({"a": {"name": "a", "namespace": "web", "url": "memory://", "codec": "msgpack"}})
    assert manager["a"] is before


def test_the_default_manager_can_be_configured_after_the_first_use() -> None:
    code = """
from samovar import cached, default_manager, default_cache
@cached
def load(n): return n
load(1)
default_manager().configure({"default": {"memory": {"max_entries": 9}}}, policy={"ttl": "1m"})
print(load.policy.ttl, default_cache().policy.ttl, default_cache()._bounds()[0])
"""
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1m", "1m", "9"]


def test_functions_that_are_gone_are_not_kept_by_their_cache() -> None:
    cache = Cache(name="weak")

    def scene() -> weakref.ref[Any]:
        @cache.cached(fallback=lambda: load)
        def load() -> object:
            return load

        load()
        cache.configure(policy=Policy(ttl=5), rules=[Rule("*", ttl=6)])
        load.refresh()
        return weakref.ref(load)

    gone = scene()
    gc.collect()
    assert gone() is None
    cache.configure(policy=Policy(ttl=7))
