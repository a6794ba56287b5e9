"""How a processor is shared: which threads and how many trainings at a time, from given times."""

from __future__ import annotations

import sys

import pytest

from attar.accel import threads
from attar.accel.threads import Share, best_share, free_memory, processes_with_room, wanted_share, whole

LONG = 1_000_000


def amdahl(serial, parallel, trainings):
    """What a step takes, of which a part gains from threads."""
    return lambda count: [serial + parallel / count] * trainings


@pytest.mark.parametrize(
    ("step", "threads", "most", "expected"),
    [
        (amdahl(0.1, 0.1, 6), 2, 6, (1, 2)),  # small networks: a process for each thread
        (amdahl(0.1, 0.1, 6), 8, 3, (2, 3)),  # room for three
        (amdahl(0.1, 0.1, 2), 8, 2, (4, 2)),  # only two trainings
        (amdahl(0.0, 1.0, 6), 4, 6, (4, 1)),  # all threads are of use
        (amdahl(0.01, 0.1, 6), 2, 6, (2, 1)),  # 9 % are not worth it
        (amdahl(0.1, 0.1, 1), 8, 1, (8, 1)),  # one training, which more threads do help
        (lambda count: [0.1 * count], 8, 1, (1, 1)),  # one that they hinder
    ],
)
def test_the_fastest_share(step, threads, most, expected):
    share = best_share(step, threads, LONG, most)
    assert (share.threads, share.jobs) == expected
    assert bool(share.line) == (expected != (threads, 1))


def test_a_short_job_is_left_alone_and_tried_once():
    asked = []

    def step(count):
        asked.append(count)
        return [0.1] * 4

    assert best_share(step, 2, steps=150, most=4) == Share(2)  # 60 seconds
    assert asked == [2]
    assert best_share(step, 2, steps=300, most=4) == Share(2)  # 120 seconds, of which 60 would be saved
    assert best_share(step, 2, steps=301, most=4).jobs == 2


def test_the_search_ends_where_it_gets_worse():
    asked = []

    def step(count):
        asked.append(count)
        return [1.0 if count >= 32 else 10.0] * 2

    assert best_share(step, 64, LONG, 2).threads == 32
    assert asked == [64, 32, 16]


def test_unequal_trainings_fill_the_places_longest_first():
    assert whole([1.0, 1.0, 3.0], 2) == 3.0
    assert whole([1.0, 2.0, 3.0, 2.0], 2) == 4.0
    assert whole([1.0, 2.0], 1) == 3.0
    # A distilled student and one alone: side by side they take as long as the longer.
    assert best_share(lambda count: [1.5 + 0.1 / count, 0.1], 2, LONG, 2) == Share(2)


def test_what_the_recipe_wants():
    assert wanted_share(2, 2) == Share(1, 2, "2 trainings at a time, 1 thread each")
    assert wanted_share(4, 2).threads == 1


def test_memory_bounds_the_processes(monkeypatch):
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    own = max(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, threads.GIB // 4)
    for free, expected in ((3.5 * own, 3), (1.5 * own, 1), (1000, 1)):
        monkeypatch.setattr(threads, "free_memory", lambda free=free: int(free))
        assert processes_with_room() == expected


@pytest.mark.parametrize(("limit", "expected"), [("1000", 400), ("max", None), ("500", 0)])
def test_a_container_leaves_what_its_limit_says(monkeypatch, tmp_path, limit, expected):
    pytest.importorskip("resource")
    (tmp_path / "max").write_text(limit)
    (tmp_path / "current").write_text("600")
    monkeypatch.setattr(threads, "CONTAINER", ())
    everything = free_memory()
    monkeypatch.setattr(threads, "CONTAINER", ((tmp_path / "max", tmp_path / "current"),))
    found = free_memory()
    assert found == expected if expected is not None else found > everything / 2
