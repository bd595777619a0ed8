"""Several processes over one Redis, and faults between them: nobody reads what is too old. `make soak` goes on longer.

First that the check of such a history finds what it has to find.
"""

import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from history import BOUND, MARGIN, Change, Outage, Read, Verdict, due_of, judge
from servers import program

SOAK = Path(__file__).resolve().parent.parent / "soak" / "soak.py"
HERE, THERE = 0, 1


def change(ended: float, version: int, key: int = 7, there: float | None = None) -> Change:
    """Process 0 has changed a key; unless it is said, the store has it when its caller goes on."""
    return Change(HERE, "invalidate", ended - 0.1, ended, {key: version}, ended if there is None else there)


def verdict(process: int, reads: list[tuple[float, int]], changes: list[Change], *outages: Outage) -> Verdict:
    found = Verdict()
    judge(found, process, [Read(began, version, 7, 0) for began, version in reads], changes, outages)
    return found


def is_too_old(process: int, began: float, version: int, changes: list[Change], *outages: Outage) -> bool:
    return bool(verdict(process, [(began, version)], changes, *outages).violations)


def test_the_process_that_changes_something_reads_nothing_older_from_then_on() -> None:
    assert not is_too_old(HERE, 9.95, 0, [change(10, 1)]), "it had not returned"
    assert is_too_old(HERE, 10.001, 0, [change(10, 1)])
    assert not is_too_old(HERE, 10.001, 1, [change(10, 1)])
    assert is_too_old(HERE, 10.001, 0, [change(10, 1, there=inf)]), "whether the store has it or not"


def test_others_have_until_the_bound_and_no_longer() -> None:
    late = 10 + BOUND + MARGIN
    assert not is_too_old(THERE, late - 0.001, 0, [change(10, 1)])
    assert is_too_old(THERE, late + 0.001, 0, [change(10, 1)])
    assert not is_too_old(THERE, late + 0.001, 1, [change(10, 1)])
    assert not is_too_old(THERE, late + 0.001, 0, [change(10, 1, key=8)])
    assert not is_too_old(THERE, late + 0.001, 0, [change(10, 1, there=11)]), "it counts from when the store has it"
    assert not is_too_old(THERE, 1e6, 0, [change(10, 1, there=inf)])


def test_a_later_change_gives_no_more_time_for_what_an_earlier_one_has_ended() -> None:
    changes = [change(10, 1), change(12, 2), change(11, 3)]
    assert is_too_old(THERE, 12.3, 0, changes)
    assert not is_too_old(THERE, 12.3, 1, changes), "the third is what ends it, from 13.25 on"
    assert is_too_old(THERE, 13.3, 1, changes)
    assert not is_too_old(THERE, 100, 3, changes)


def test_while_the_store_is_out_of_reach_the_bound_has_not_begun() -> None:
    assert due_of(change(10, 1), THERE, [(11, 15)]) == 15 + BOUND + MARGIN
    assert due_of(change(10, 1), THERE, [(9, 10.5)]) == 10.5 + BOUND + MARGIN
    assert due_of(change(10, 1), THERE, [(16, 20), (11, 15)]) == 20 + BOUND + MARGIN
    assert due_of(change(10, 1), THERE, [(13, 20)]) == 10 + BOUND + MARGIN, "what was gone does not come back"
    assert due_of(change(10, 1), HERE, [(9, 20)]) == 10


def test_it_says_how_old_the_oldest_was_that_may_be_read() -> None:
    found = verdict(THERE, [(9, 0), (10.5, 0), (11.5, 0), (12, 1)], [change(10, 1)])
    assert (found.reads, found.stale, found.longest, found.violations) == (4, 2, 1.5, [])
    found = verdict(THERE, [(14, 0), (16, 0)], [change(10, 1)], (11, 15))
    assert (found.stale, found.away, found.longest, found.longest_back) == (2, 2, 0, 1)


def soak(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program()
    command = [sys.executable, "-P", str(SOAK), "--history", str(tmp_path / "history.txt"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=115, check=False)


def said(done: subprocess.CompletedProcess[str], tmp_path: Path) -> str:
    history = tmp_path / "history.txt"
    return done.stdout + done.stderr + (history.read_text()[:20_000] if history.exists() else "")


@pytest.mark.slow
def test_who_hears_nobody_reads_what_is_too_old_and_it_is_found(tmp_path: Path) -> None:
    done = soak(tmp_path, "--seconds", "3", "--seed", "1", "--faults", "", "--deaf")
    assert done.returncode == 1, said(done, tmp_path)
    assert "too late" in (tmp_path / "history.txt").read_text()


@pytest.mark.slow
def test_in_a_minute_of_faults_nobody_reads_what_is_too_old_and_nothing_is_lost(tmp_path: Path) -> None:
    done = soak(tmp_path, "--seconds", "60")
    assert done.returncode == 0, said(done, tmp_path)
