"""The runs that a suite stands for, and the teachers that are trained for them."""

from dataclasses import replace
from pathlib import Path

import pytest

from attar.errors import AttarError
from attar.experiments.build import split_seed
from attar.experiments.layout import teacher_recipe
from attar.experiments.suites.cells import Places, cells_of, combinations, folder_name
from attar.recipe import read_recipe

PAIR = {"teacher": {"name": "resnet14", "epochs": 3}, "student": "resnet8"}
GIVEN = {"teacher": {"name": "resnet14", "weights": "a.pth"}, "student": "resnet8"}


def cells(methods, pairs=(GIVEN,), seeds=(0,), **recipe):
    suite = {"methods": list(methods), "pairs": list(pairs), "seeds": list(seeds)}
    return cells_of(suite, {"data": {"name": "digits"}, **recipe}, Path("out"))


def test_lists_stand_for_several_methods_and_keys_of_a_recipe_are_the_recipes():
    found = cells([{"name": "kd", "temperature": [2, 4], "optim": {"lr": 0.05}, "epochs": [1, 2]}], epochs=7)
    assert [cell.row for cell in found] == [
        f"kd temperature={t} optim.lr=0.05 epochs={epochs}" for t in (2, 4) for epochs in (1, 2)
    ]
    recipe = read_recipe(**found[1].values)
    assert (recipe.method.options, recipe.optim.lr, recipe.epochs) == ({"temperature": 2}, 0.05, 2)
    assert len({cell.folder for cell in found}) == 4


def test_a_list_within_a_list_is_one_value():
    section = {"optim": {"schedule": "multistep", "milestones": [[0.5], [0.5, 0.75]]}}
    assert [one["optim"]["milestones"] for one in combinations(section)] == [[0.5], [0.5, 0.75]]
    with pytest.raises(AttarError, match=r"lr: \[\] of a suite is no value"):
        list(combinations({"lr": []}))


def test_a_methods_own_option_of_a_recipes_name_stands_in_its_options():
    found = cells([{"name": "semckd", "options": {"batch_size": 32}, "batch_size": 64}])[0]
    recipe = read_recipe(**found.values)
    assert (recipe.method.options, recipe.batch_size) == ({"batch_size": 32}, 64)
    assert found.row == "semckd options.batch_size=32 batch_size=64"


def test_seeds_are_outermost():
    found = cells(["kd", "dkd"], seeds=(3, 7))
    assert [(cell.row, cell.seed, cell.values["seed"]) for cell in found] == [
        ("kd", 3, 3), ("dkd", 3, 3), ("kd", 7, 7), ("dkd", 7, 7),
    ]  # fmt: skip
    assert found[2].folder == Path("resnet14_-_resnet8/kd/seed7")


def test_pairs_that_differ_in_any_key_have_a_column_and_a_folder_each():
    pairs = [GIVEN, {**GIVEN, "data": "cifar10"}, {**GIVEN, "epochs": 5}, {"student": ["resnet8", "resnet20"]}]
    found = cells(["dml"], pairs)
    assert [cell.column for cell in found] == [
        "resnet14 -> resnet8",
        "resnet14 -> resnet8 data=cifar10",
        "resnet14 -> resnet8 epochs=5",
        "resnet8",
        "resnet20",
    ]
    assert len({cell.folder for cell in found}) == 5
    assert read_recipe(**found[1].values).data.name == "cifar10"


def test_folders_are_different_where_only_signs_are():
    found = cells([{"name": "kd", "weights": {"a b": 1}}, {"name": "kd", "weights": {"a/b": 1}}])
    assert len({cell.folder for cell in found}) == 2
    assert len(folder_name("x" * 500)) < 200
    assert folder_name("x" * 500) != folder_name("x" * 501)


@pytest.mark.parametrize(
    ("methods", "pairs", "message"),
    [
        (["kd", {"name": "kd"}], [GIVEN], "method 'kd' twice"),
        (["kd"], [GIVEN, GIVEN], "pair 'resnet14 -> resnet8' twice"),
        ([{"name": "kd", "seed": 3}], [GIVEN], r"methods: seed does not stand here; give seeds: \[3, 7\]"),
        (["kd"], [{**GIVEN, "seeds": 3}], "pairs: seeds does not stand here"),
        ([{"name": "kd", "chain": ["a"]}], [GIVEN], "methods: chain does not stand here; a chain stands in the place"),
        (["kd"], [{**GIVEN, "chain": ["resnet14", "resnet8"]}], "leave teacher= and student= out"),
        ([{"name": "kd", "student": "resnet20"}], [GIVEN], "student: resnet20 names other networks .* another pair"),
        ([{"name": "kd", "data": {"name": "cifar10"}}], [GIVEN], "names other networks or data; that is another pair"),
        ([{"name": "kd", "optim": {"lrr": 1}}], [GIVEN], "did you mean 'optim.lr'"),
    ],
)
def test_what_cannot_be_is_one_line(methods, pairs, message):
    with pytest.raises(AttarError, match=message):
        cells(methods, pairs)


def test_a_teacher_is_trained_once_for_each_pair_and_seed():
    """Whatever the methods change about the students; another training of the teacher is another one."""
    methods = ["supervised", {"name": "kd", "optim": {"lr": [0.1, 0.05]}}, {"name": "kd", "teacher": {"epochs": 9}}]
    found = cells(methods, [PAIR, {**PAIR, "student": "resnet20"}], (0, 1), epochs=2)
    trained = {one.title: one for cell in found for one in cell.teachers}
    assert list(trained) == [
        f"{name}, seed {seed}" for seed in (0, 1) for name in ("teacher resnet14", "teacher resnet14 2")
    ]
    first = trained["teacher resnet14, seed 1"]
    assert first.trains_teacher
    recipe = read_recipe(**first.values)
    assert (recipe.student.name, recipe.method.name, recipe.epochs, recipe.seed) == ("resnet14", "supervised", 3, 1)
    assert recipe.optim.lr == 0.2
    assert read_recipe(**trained["teacher resnet14 2, seed 0"].values).epochs == 9
    cell = found[1]
    weights = str(Path("out/teachers/teacher_resnet14/seed0/student.safetensors").resolve())
    assert read_recipe(**cell.values).teacher.weights == weights
    assert read_recipe(**cell.untrained).teacher.weights is None


def test_names_that_differ_in_odd_characters_alone_have_a_folder_each():
    """Of rows and of teachers, whatever the file system makes of upper and lower case."""
    places = Places(Path("out"))
    names = ["a b", "a_b", "A/b", "a|b"]
    assert len({str(places.of("x", name)).lower() for name in names}) == 4
    assert len({str(places.of_teacher(name)).lower() for name in names}) == 4
    assert places.of_teacher("a b") == places.of_teacher("a b")


def test_of_several_teachers_those_without_weights_are_trained():
    found = cells(["kd"], [{"teacher": {"name": "resnet14,resnet8", "weights": "a.pth,"}, "student": "resnet8"}])[0]
    assert [one.title for one in found.teachers] == ["teacher2 resnet8, seed 0"]
    given, trained = read_recipe(**found.values).teacher.weights.split(",")
    assert given == "a.pth"
    assert trained.endswith("teachers/teacher2_resnet8/seed0/student.safetensors")


def test_networks_of_one_name_are_trained_from_seeds_of_their_own():
    found = cells(["kd"], [{"teacher": {"name": "resnet14,resnet8,resnet14"}, "student": "resnet8"}])[0]
    assert [read_recipe(**one.values).seed for one in found.teachers] == [0, 10_000, 10_000]
    assert [one.folder.name for one in found.teachers] == ["seed0"] * 3


def test_seeds_share_no_teacher_and_the_teachers_of_one_seed_see_the_same_images():
    """The second teacher of seed 0 is not the first of seed 1, and its validation images are those of the student."""
    found = cells(["kd"], [{"teacher": {"name": "resnet8,resnet8"}, "student": "resnet8"}], seeds=[0, 1])
    recipes = [read_recipe(**one.values) for cell in found for one in cell.teachers]
    assert [one.seed for one in recipes] == [10_000, 20_000, 10_001, 20_001]
    assert [split_seed(one, one.seed) for one in recipes] == [0, 0, 1, 1]


def test_a_teacher_of_fewer_epochs_than_the_warm_up_has_the_same_part_of_it():
    optim = {"schedule": "cosine", "warmup": 4}
    (teacher,) = cells(["kd"], [PAIR], epochs=8, optim=optim)[0].teachers
    assert read_recipe(**teacher.values).optim.warmup == 1.5
    assert read_recipe(**cells(["kd"], [PAIR], epochs=8, optim=optim)[0].values).optim.warmup == 4


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("teacher", ["resnet8", "resnet14", "resnet14,resnet8,resnet14"])
def test_a_suite_trains_the_teachers_that_one_run_trains(teacher, seed):
    pair = {"teacher": {"name": teacher, "epochs": 3, "train_size": 50}, "student": "resnet8"}
    optim = {"schedule": "cosine", "warmup": 4}
    (cell,) = cells(["kd"], [pair], seeds=[seed], epochs=8, optim=optim)
    recipe = read_recipe(**cell.untrained)
    for number, trained in enumerate(read_recipe(**one.values) for one in cell.teachers):
        own = teacher_recipe(recipe, number)
        assert replace(trained, out=None, teacher=own.teacher) == own


def test_a_teachers_training_may_see_fewer_images():
    (teacher,) = cells(["kd"], [{**PAIR, "teacher": {"name": "resnet14", "train_size": 50}}])[0].teachers
    assert read_recipe(**teacher.values).data.train_size == 50
