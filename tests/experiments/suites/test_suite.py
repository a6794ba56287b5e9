"""The file of a suite, with every key of another shape."""

import pytest

from attar.errors import AttarError
from attar.experiments.suites.suite import Options, load_suite
from attar.experiments.suites.suite_check import check_recipe
from attar.recipe import read_recipe, to_yaml

GOOD = {"methods": "[kd]", "pairs": "[{teacher: resnet14, student: resnet8}]"}


def loaded(folder, **keys):
    file = folder / "suite.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in {**GOOD, **keys}.items()))
    return load_suite(file)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("pairs", ["5", "[5]", "resnet8", "{teacher: a}", "[[a]]"]),
        ("methods", ["5", "[[kd]]", "kd", "[{temperature: 2}]", "[{name: 5}]"]),
        ("recipe", ["[1]", "text", "5"]),
        ("seeds", ["x", "[]", "[1, 1]", "[a]", "0", "-1", "1.5", "true"]),
    ],
)
def test_a_key_of_another_shape_is_one_line_that_says_what_is_expected(tmp_path, key, values):
    for value in values:
        with pytest.raises(AttarError, match=f"^{key} of suite .*: expected ") as caught:
            loaded(tmp_path, **{key: value})
        assert "\n" not in str(caught.value)


def test_a_removed_key_is_an_unknown_one_with_advice(tmp_path):
    with pytest.raises(AttarError, match=r"^unknown key of a suite: 'together'; it is gone, .*; leave it out$"):
        loaded(tmp_path, together=4)


@pytest.mark.parametrize("key", ["pairs", "methods"])
def test_what_is_missing_is_reported(tmp_path, key):
    with pytest.raises(AttarError, match="needs `methods` and `pairs`"):
        loaded(tmp_path, **{key: "[]"})


def test_a_number_of_seeds_that_would_fill_the_memory(tmp_path):
    with pytest.raises(AttarError, match="more than 100000 runs"):
        loaded(tmp_path, seeds=10**9)


def test_what_is_left_out_has_a_default(tmp_path):
    suite = loaded(tmp_path)
    assert (suite["recipe"], suite["seeds"], suite["control"]) == ({}, [0], None)
    assert suite["methods"] == ["kd"]


def test_seeds_are_a_number_or_a_list(tmp_path):
    assert loaded(tmp_path, seeds=3)["seeds"] == [0, 1, 2]
    assert loaded(tmp_path, seeds="[3, 7]")["seeds"] == [3, 7]


def test_lists_count_among_the_runs(tmp_path):
    values = "[{name: kd, temperature: [" + ", ".join(map(str, range(400))) + "], optim: {lr: ["
    values += ", ".join(map(str, range(400))) + "]}}]"
    with pytest.raises(AttarError, match="more than 100000 runs"):
        loaded(tmp_path, methods=values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("share=0/4", "share must be K/N"),
        ("share=5/4", "share must be"),
        ("share=a", "share must be"),
        ("share=", "share must be"),  # of a variable that is not set
        ("out=", "out= needs a folder"),
        ("jobs=0", "jobs"),
    ],
)
def test_options_of_the_command_line_are_checked(given, message):
    with pytest.raises(AttarError, match=message):
        Options.of([given])


def test_options_are_no_part_of_the_recipe():
    found = Options.of(["epochs=3", "out=runs/x", "share=2/4", "optim.lr=0.1", "jobs=2"])
    assert found == Options(["epochs=3", "optim.lr=0.1"], "runs/x", 2, (2, 4))


def test_a_run_whose_rate_was_found_is_the_one_that_the_suite_means(tmp_path):
    given = {"student": "resnet8", "method": "supervised", "optim": {"lr": "auto"}}
    begun = read_recipe(**{**given, "optim": {"lr": 0.026}})
    (tmp_path / "recipe.yaml").write_text(to_yaml(begun))
    check_recipe(tmp_path, given)
    with pytest.raises(AttarError, match=r"holds a run with optim=.*0.026.*choose another out="):
        check_recipe(tmp_path, {**given, "optim": {"lr": 0.2}})
    with pytest.raises(AttarError, match="holds a run with epochs=10, the suite 3"):
        check_recipe(tmp_path, {**given, "epochs": 3})
