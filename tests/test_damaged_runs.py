"""Run folders with a damaged file: every command that reads them works without it, or ends in one line."""

from collections import Counter

import pytest

pytest.importorskip("PIL.Image")

import folders

# What each command met first: zlib's own error, a shape, a type, a byte, a depth.
MET = [
    ("report", "pictures.npz", "bits flipped", 3),
    ("report", "pictures.npz", "an array of another type", 1),
    ("report", "alone/predictions.npz", "zeros", 2),
    ("report", "predictions.npz", "values out of range", 5),
    ("report", "environment.json", "a value of another type", 3280387012),
    ("report", "environment.json", "a byte that is no UTF-8", 1),
    ("report", "results.json", "nested without end", 1),
    ("report", "results.json", "another value of another type", 8),
    ("report", "student.json", "another value of another type", 2280439430),
    ("report", "metrics.jsonl", "a value of another type", 4),
    ("evaluate", "student.json", "a value of another type", 3177609664),
    ("predict", "student.json", "an entry lost", 2),
    ("predict", "student.json", "an entry lost", 532125690),  # the name of a class
    ("predict", "student.safetensors", "a folder", 0),
    ("profile", "student.json", "nested without end", 1),
    ("resume, finished", "recipe.yaml", "empty", 1),
    ("resume, finished", "scores.json", "noise", 1),
    ("resume, finished", "metrics.jsonl", "cut", 6),
    ("resume, finished", "results.json", "a link to itself", 1),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return folders.make_run(tmp_path_factory.mktemp("damaged") / "whole")


@pytest.mark.parametrize("kind", [folders.Kind(*kind) for kind in MET], ids=str)
def test_a_damaged_file_is_one_line_or_not_needed(finished, tmp_path, kind):
    outcome, text = folders.outcome_of(kind, finished, tmp_path / "at")
    assert outcome != "wrong", text


def test_what_is_refused_is_named_with_a_remedy(finished, tmp_path):
    for file, damage, message in (
        ("results.json", "empty", "results.json (it is no JSON); attar resume writes it again"),
        ("pictures.npz", "cut", "pictures.npz (BadZipFile); delete it to go on without"),
        ("metrics.jsonl", "a byte that is no UTF-8", "metrics.jsonl (it is not UTF-8); delete it to go on without"),
    ):
        _, text = folders.outcome_of(folders.Kind("report", file, damage, 1), finished, tmp_path / "at")
        assert text.strip().endswith(message)


@pytest.mark.slow
def test_no_damage_of_any_kind_ends_in_a_traceback(tmp_path):
    found = folders.rows(trials=1, seed=11, scratch=tmp_path)
    assert sum(row["tried"] for row in found) == folders.KINDS
    assert [row for row in found if not row["passed"]] == []
    # The damages are real: most of them are refused.
    assert Counter(row["refused"] > 0 for row in found) == {True: len(folders.READERS)}
