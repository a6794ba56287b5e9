"""The recipe: layers, shorthand, and every mistake in one line."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import recipes
from attar.errors import AttarError
from attar.recipe import Recipe, describe, listed, load_yaml, normalise, parse, read_recipe, to_yaml


def test_later_layers_win(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("epochs: 5\nbatch_size: 7\nseed: 1\n")
    recipe = read_recipe(file, ["batch_size=8", "seed=2"], seed=3)
    assert (recipe.epochs, recipe.batch_size, recipe.seed) == (5, 8, 3)


def test_shorthand_names_and_own_settings():
    recipe = read_recipe(overrides=["teacher=resnet20", "method=dkd", "method.beta=2", "data.test_fraction=0.4"])
    assert recipe.teacher.name == "resnet20"
    assert (recipe.method.name, recipe.method.options) == ("dkd", {"beta": 2})
    assert recipe.data.options == {"test_fraction": 0.4}


def test_settings_of_joined_methods():
    assert read_recipe(overrides=["method=kd+at", "method.at.weight=500"]).method.options == {"at": {"weight": 500}}


def test_sections_merge_key_by_key():
    recipe = read_recipe(overrides=["optim.lr=0.01"], optim={"momentum": 0.8})
    assert (recipe.optim.lr, recipe.optim.momentum, recipe.optim.nesterov) == (0.01, 0.8, True)


def test_another_method_begins_without_the_first_ones_options(tmp_path):
    (tmp_path / "recipe.yaml").write_text("method: {name: kd, temperature: 2}")
    assert read_recipe(tmp_path / "recipe.yaml", ["method=at"]).method.options == {}
    same = read_recipe(tmp_path / "recipe.yaml", ["method=kd", "method.ce=1"])
    assert same.method.options == {"temperature": 2, "ce": 1}


def test_what_the_caller_gave_is_not_changed():
    method, optim = {"name": "kd", "temperature": 2}, {"lr": 0.1}
    read_recipe(method=method, optim=optim, overrides=["optim.lr=1"])
    assert (method, optim) == ({"name": "kd", "temperature": 2}, {"lr": 0.1})
    normalise({"method": method})
    assert method == {"name": "kd", "temperature": 2}


MISTAKES = {
    "epoch=3": "unknown key 'epoch'; did you mean 'epochs'?",
    "optim.learning_rate=3": "unknown key 'optim.learning_rate'; did you mean",
    "teacher.weight=x": "unknown key 'teacher.weight'; did you mean 'teacher.weights'?",
    "epochs=many": "epochs: ",
    "epochs=1.5": "epochs: ",
    "epochs=[1]": "epochs",
    "epochs=${other}": "epochs: ",
    "optim=5": "optim",
    "optim.lr=fast": "optim.lr: ",
    "optim.lr=nan": "optim.lr must be above 0",
    "optim.nesterov=maybe": "optim.nesterov: ",
    "optim.milestones=[a]": "optim.milestones",
    "epochs=0": "epochs must be above 0, got 0",
    "batch_size=-1": "batch_size must be above 0",
    "seeds=0": "seeds must be above 0",
    "seed=-1": "seed must be in",
    "teacher.epochs=0": "teacher.epochs must be above 0",
    "optim.lr=0": "optim.lr must be above 0",
    "optim.momentum=-1": "optim.momentum must be in [0, 1)",
    "optim.weight_decay=-1": "optim.weight_decay must be 0 or above",
    "optim.label_smoothing=1": "optim.label_smoothing must be in [0, 1)",
    "optim.clip_norm=0": "optim.clip_norm must be above 0",
    "optim.accumulate=0": "optim.accumulate must be above 0",
    "optim.ema=1": "optim.ema must be between 0 and 1",
    "optim.schedule=cosin": "did you mean 'cosine'?",
    "optim.name=adam": "did you mean 'adamw'?",
    "precision=bf16": "'bf16'",
    "select=bset": "did you mean 'best'?",
    "data.val_fraction=1": "data.val_fraction must be in [0, 1)",
    "student=[resnet8]": "student: expected a name or a section of keys, got a list",
    "method.options=3": "method.options",
    "data.augment=3": "data.augment",
    "epochs": "expected key=value, got 'epochs'",
    "=3": "expected key=value",
    "a=[": "cannot be read",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes_are_one_line_that_names_the_key(override):
    with pytest.raises(AttarError) as caught:
        read_recipe(overrides=[override])
    assert MISTAKES[override] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_best_needs_a_validation_set():
    with pytest.raises(AttarError, match="select=best needs a validation set"):
        read_recipe(select="best", data={"val_fraction": 0})


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "\x00"])
def test_files_that_are_no_recipe(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(AttarError, match=r"bad\.yaml"):
        read_recipe(tmp_path / "bad.yaml")


def test_a_missing_file(tmp_path):
    with pytest.raises(AttarError, match=r"none\.yaml"):
        read_recipe(tmp_path / "none.yaml")


def test_yaml_round_trip(tmp_path):
    recipe = read_recipe(
        overrides=["method=dkd", "method.beta=2", "optim.ema=0.99", "student=resnet8", "out=1e3", "teacher=a,b"]
    )
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


def test_every_packaged_recipe_reads():
    files = sorted(recipes.path("digits").parent.glob("*.yaml"))
    assert [read_recipe(file).student.name for file in files if not read_recipe(file).student.name] == []


def keys(cls=Recipe, prefix=""):
    for entry in dataclasses.fields(cls):
        if dataclasses.is_dataclass(entry.default_factory):
            yield from keys(entry.default_factory, f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}"


def test_every_key_has_a_meaning():
    rows = describe()
    assert [key for key, _, _ in rows] == list(keys())
    assert all(len(meaning) > 10 for _, _, meaning in rows)
    assert {key: default for key, default, _ in rows}["optim.lr"] == "0.2"


NAMES = st.sampled_from(
    [
        *keys(),
        "teacher",
        "student",
        "data",
        "method",
        "optim",
        "method.options",
        "method.x",
        "data.x.y",
        "out",
        "",
        "a.b",
    ]
)
VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["null", "[]", "{}", "[1, 2]", "{a: 1}", "${x}", "${epochs}", "???", "1e999", "nan", "-1", "true"]),
    st.integers().map(str),
    st.floats().map(str),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES).map("=".join), max_size=3))
def test_junk_is_a_recipe_or_one_line(overrides):
    assert_recipe_or_line(overrides=overrides)


def assert_recipe_or_line(**given):
    """Any exception but an AttarError goes through."""
    try:
        message = read_recipe(**given)
    except AttarError as error:
        message = str(error)
    assert isinstance(message, Recipe) or (message.strip() and "\n" not in message)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "options", "lr", "x"]), inner),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["teacher", "method", "data", "optim", "epochs", "out", "alone"]), TREES))
def test_junk_keywords_are_a_recipe_or_one_line(values):
    assert_recipe_or_line(**values)


def test_parse_reads_values_as_yaml():
    assert parse("data.image_size=16") == {"data": {"image_size": 16}}


TEXTS = ["2024_05", "no", "010", "1e3", "0x1F", "12:30", "2024-05-01", "a,b", "[x]", "{a}", "a: b", "a #b", "*x", "a=b"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("key", ["data.root", "out", "teacher.weights", "data.unlabelled", "alone", "student.name"])
def test_text_on_the_command_line_stays_text(key, text):
    held = read_recipe(overrides=[f"{key}={text}"])
    for part in key.split("."):
        held = getattr(held, part)
    assert held == text


@pytest.mark.parametrize("text", ["2024_05", "no", "010", "1e3", "0x1F", "12:30", "2024-05-01", "'a,b'"])
def test_text_in_a_file_stays_text(tmp_path, text):
    (tmp_path / "r.yaml").write_text(
        f"out: {text}\nteacher: {text}\ndata: {{name: folder, root: {text}, train_size: 010}}\n"
    )
    recipe = read_recipe(tmp_path / "r.yaml")
    assert (recipe.out, recipe.teacher.name, recipe.data.root) == (text.strip("'"),) * 3
    assert recipe.data.train_size == 8  # a number is read as YAML
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert read_recipe(tmp_path / "again.yaml") == recipe


def test_text_in_a_suite_stays_text(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "recipe: {out: 010, epochs: 010, data: {root: no}}\n"
        "pairs: [{teacher: {name: 1e3, weights: 2024_05}, student: 010}]\nmethods: [{name: kd, temperature: 010}]\n"
    )
    assert load_yaml(tmp_path / "s.yaml", "suite") == {
        "recipe": {"out": "010", "epochs": 8, "data": {"root": "no"}},
        "pairs": [{"teacher": {"name": "1e3", "weights": "2024_05"}, "student": "010"}],
        "methods": [{"name": "kd", "temperature": 8}],
    }


def test_no_text_and_quoted_text(tmp_path):
    assert read_recipe(overrides=["data.root=null", "out="]) == Recipe()
    assert read_recipe(overrides=["data.root='no'", 'out="null"']).data.root == "no"
    assert read_recipe(overrides=["teacher={name: resnet20, weights: a.pth}"]).teacher.weights == "a.pth"
    (tmp_path / "r.yaml").write_text("data: {root: ~}\nout:\n")
    assert read_recipe(tmp_path / "r.yaml") == Recipe()


def test_a_leading_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = read_recipe(overrides=["out=~/runs/a", "teacher.weights=~/a.pth,~/b.pth", "data.root=~", "alone=a~/b"])
    assert (recipe.out, recipe.data.root, recipe.alone) == (f"{tmp_path}/runs/a", str(tmp_path), "a~/b")
    assert recipe.teacher.weights == f"{tmp_path}/a.pth,{tmp_path}/b.pth"
    assert read_recipe(out="~/x").out == f"{tmp_path}/x"


def test_a_comma_in_a_path_that_exists_parts_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd,at").mkdir()
    assert listed("resnet56,kd,at , resnet20") == ["resnet56", "kd,at", "resnet20"]
    assert listed("kd,dkd") == ["kd", "dkd"]


def test_the_order_of_overrides_does_not_lose_any():
    recipe = read_recipe(overrides=["teacher.weights=a.pth", "method.beta=2", "teacher=resnet56", "method=dkd"])
    assert (recipe.teacher.name, recipe.teacher.weights) == ("resnet56", "a.pth")
    assert (recipe.method.name, recipe.method.options) == ("dkd", {"beta": 2})


def test_weights_do_not_outlive_the_teacher_they_belong_to(tmp_path):
    (tmp_path / "recipe.yaml").write_text("teacher: {name: resnet56, weights: a.pth}")
    assert read_recipe(tmp_path / "recipe.yaml", ["teacher=resnet44"]).teacher.weights is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"track": [[1]]}, "track must be a list of str, got a list in it"),
        ({"optim": {"milestones": [{"x": 1}]}}, "optim.milestones must be a list of float, got a dict in it"),
        ({"optim": {"milestones": [60, 120]}}, "optim.milestones are parts of the training, 0 to 1; got 60"),
    ],
)
def test_lists_hold_what_they_are_lists_of(keys, message):
    with pytest.raises(AttarError, match=message):
        read_recipe(**keys)


@pytest.mark.parametrize(
    "key", ["teacher.weights", "teacher.cache", "student.weights", "data.root", "data.unlabelled", "alone"]
)
def test_an_empty_path_is_not_the_folder_of_now(key):
    section, _, name = key.partition(".")
    given = {section: {"name": "digits" if section == "data" else "resnet8", name: ""}} if name else {key: ""}
    with pytest.raises(AttarError, match=rf"^{key} is empty; give a path, or leave it out$"):
        read_recipe(**given)
