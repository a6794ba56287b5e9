"""Hostile YAML, in recipes, suites and overrides: one line, at once, and hardly any memory."""

import time
import tracemalloc

import pytest

from attar.errors import AttarError
from attar.experiments.suites.bench import read_suite
from attar.recipe import parse, read_recipe
from attar.yaml_text import check_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
BOMBS = {
    "billion laughs": (LAUGHS, "more than 10000 values, references written out"),
    "laughing keys": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{b: *a{n - 1}, c: *a{n - 1}}}\n" for n in range(1, 40)),
        "more than 10000 values",
    ),
    "many keys": ("".join(f"k{n}: 1\n" for n in range(20_000)), "more than 10000 values"),
    "deep lists": ("a: " + "[" * 100_000, "nested more than 40 deep"),
    "deep sections": ("{a: " * 100_000, "nested more than 40 deep"),
    "deep blocks": ("".join(f"{' ' * n}a:\n" for n in range(500)), "nested more than 40 deep"),
    "contains itself": ("a: &a [1, *a]", r"contains itself, \*a"),
    "merges itself": ("a: &a {<<: *a}", r"contains itself, \*a"),
    "no anchor": ("a: *b", "undefined alias"),
    "base 60": ("epochs: " + "59:" * 100_000 + "1", "a value of 300001 characters"),
    "large": ("student: " + "a" * 1_100_000, "more than 1000000 bytes"),
    "twice": ("epochs: 1\nepochs: 2", r"found duplicate key epochs \(line 2\)"),
    "twice, deep": ("optim:\n  lr: 1\n  lr: 2", r"found duplicate key lr \(line 3\)"),
    "two documents": ("epochs: 1\n---\nepochs: 2", "but found another document"),
    "a key that is a list": ("? [a, b]\n: 1", "found unhashable key"),
    "an unknown tag": ("epochs: !secret 1", "could not determine a constructor for the tag '!secret'"),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("read", [read_recipe, lambda file: read_suite(file, [], None)], ids=["recipe", "suite"])
def test_a_hostile_file_is_refused_in_one_line_and_at_once(tmp_path, name, read):
    text, printed = BOMBS[name]
    file = tmp_path / "x.yaml"
    file.write_text(text)
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(AttarError, match=printed) as caught:
            read(file)
        seconds, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert seconds < 3
    assert peak < 20e6


@pytest.mark.parametrize("value", ["[" * 5000, "{a: " * 5000, "1:" * 5000, "&a [*a]"], ids=len)
def test_a_hostile_override_is_refused(value):
    with pytest.raises(AttarError, match=r"deep|characters|itself") as caught:
        parse(f"method.x={value}")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("number", ["9" * 400, "0x" + "f" * 1000, "-" + "9" * 30, str(2**63)])
@pytest.mark.parametrize("key", ["epochs", "seed", "batch_size", "method.temperature", "student.options.x"])
def test_whole_numbers_above_64_bits_are_refused_by_key(key, number):
    with pytest.raises(AttarError, match="too large: a whole number must be below 2\\^63") as caught:
        read_recipe(overrides=[f"{key}={number}"])
    assert key.rpartition(".")[2] in str(caught.value)
    assert len(str(caught.value)) < 100


def test_a_whole_number_deep_in_a_list_is_found():
    with pytest.raises(AttarError, match=r"method\.options\.x\.1\.a is too large"):
        read_recipe(method={"name": "kd", "x": [1, {"a": 2**64}]})


def test_references_and_merge_keys_that_mean_something_are_read(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("student: &net {name: resnet8, options: {a: 1}}\nteacher:\n  <<: *net\n  name: resnet14\n")
    recipe = read_recipe(file)
    assert (recipe.teacher.name, recipe.teacher.options) == ("resnet14", {"a": 1})
    assert recipe.student.name == "resnet8"


def test_the_limits_themselves_are_allowed():
    check_yaml("[" * 40 + "]" * 40, "it")
    with pytest.raises(AttarError, match="it is nested"):
        check_yaml("[" * 41 + "]" * 41, "it")
    check_yaml("a: &a [1, 2, 3]\nb: [" + "*a, " * 2498 + "]", "it")  # 9999 values: 1 + 4 + 2 keys + 4 x 2498
    with pytest.raises(AttarError, match="more than 10000 values"):
        check_yaml("a: &a [1, 2, 3]\nb: [" + "*a, " * 2499 + "]", "it")
    check_yaml("a" * 4096, "it")
    with pytest.raises(AttarError, match="4097 characters"):
        check_yaml("a" * 4097, "it")
