"""Hostile and random input: a recipe, a checkpoint or a file is read, or refused in one line; nothing in it runs."""

import json
import os
import pickle
import tarfile
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from attar.data.sources.download import unpack
from attar.deploy import load_card, save
from attar.errors import AttarError
from attar.experiments.replay import replay
from attar.experiments.suites.bench import read_suite
from attar.models import create_model
from attar.models.weights import load_weights
from attar.recipe import Recipe, describe, read_recipe
from attar.train import checkpoint as checkpoints

KEYS = [key for key, _, _ in describe()]


def refused(call, *arguments, **values):
    """The error of an input, or None where it is taken; any other exception goes through."""
    try:
        call(*arguments, **values)
    except AttarError as error:
        message = str(error)
    else:
        return None
    assert message.strip()
    assert "\n" not in message, message
    return message


SCALARS = st.one_of(
    st.text(max_size=12),
    st.integers(-(2**2000), 2**2000).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["null", "true", "[]", "{}", "[1, [2]]", "{a: {b: 1}}", "${x}", "${epochs}", "${oc.env:HOME}", "???"]
    ),
    st.sampled_from(
        ["!!python/object/apply:os.system [id]", "!!binary x", "!a b", "&a [*a]", "*a", "<<", "%YAML", "\t"]
    ),
)
NAMES = st.one_of(
    st.sampled_from([*KEYS, "teacher", "student", "data", "method", "optim", "method.x", "student.options.a"]),
    st.sampled_from(KEYS).map(lambda key: key[:-1]),
    st.text(alphabet="ab.=[]{}:${}!& \x00\t", max_size=6),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(NAMES, SCALARS), max_size=3))
def test_random_overrides(pairs):
    refused(read_recipe, overrides=["=".join(pair) for pair in pairs])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "recipe.yaml"


@settings(max_examples=120, deadline=None)
@given(pairs=st.lists(st.tuples(NAMES, SCALARS), max_size=4), joint=st.sampled_from([": ", ":\n  ", "\n- ", " "]))
def test_random_yaml(file, pairs, joint):
    file.write_text("\n".join(joint.join(pair) for pair in pairs), encoding="utf-8")
    refused(read_recipe, file)


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=40))
def test_random_bytes_as_a_recipe(file, content):
    file.write_bytes(content)
    refused(read_recipe, file)


def test_a_number_too_large_for_any_type():
    assert "too large" in refused(read_recipe, overrides=["optim.lr=" + "9" * 400])


TAGS = [
    "!!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/new:os.system ['touch {mark}']",
    "!!python/name:os.system",
    "!!python/module:os",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_that_wants_to_run_something(tmp_path, tag):
    mark = tmp_path / "ran"
    file = tmp_path / "x.yaml"
    file.write_text(f"epochs: {tag.format(mark=mark)}\n")
    assert "is no YAML" in refused(read_recipe, file)
    file.write_text(f"methods: [kd]\npairs: {tag.format(mark=mark)}\n")
    assert "is no YAML" in refused(read_suite, file, [], Console(quiet=True))
    assert refused(read_recipe, overrides=[f"epochs={tag.format(mark=mark)}"])
    assert not mark.exists()


class Bomb:
    """Runs a command when it is unpickled by somebody who trusts it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_checkpoint_that_wants_to_run_something(tmp_path, sealed):
    mark, path = tmp_path / "ran", tmp_path / "checkpoint.pt"
    torch.save({"version": checkpoints.VERSION, "method": Bomb(mark), "optimiser": {}}, path)
    if sealed:  # whoever can write the file can also seal it
        path.write_bytes(path.read_bytes() + checkpoints._seal(path, path.stat().st_size))
    assert refused(checkpoints.restore, path)
    assert not mark.exists()


def test_weights_a_card_and_a_failure_that_want_to_run_something(tmp_path):
    mark = tmp_path / "ran"
    net = create_model("resnet8")
    for suffix in ("pth", "safetensors"):
        (tmp_path / f"net.{suffix}").write_bytes(pickle.dumps(Bomb(mark)))
        assert "cannot read" in refused(load_weights, net, tmp_path / f"net.{suffix}")
    (tmp_path / "net.json").write_bytes(pickle.dumps(Bomb(mark)))
    assert refused(load_card, tmp_path / "net.safetensors")
    torch.save(Bomb(mark), tmp_path / "failure.pt")
    assert "damaged" in refused(replay, tmp_path / "failure.pt")
    assert not mark.exists()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """A checkpoint and its bytes."""
    path = tmp_path_factory.mktemp("sealed") / "checkpoint.pt"
    checkpoints.save(path, checkpoints.Checkpoint({"w": torch.arange(50.0)}, {}, metrics=[{"epoch": 1}]))
    return path, path.read_bytes()


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_checkpoint_is_never_taken(sealed, data):
    path, whole = sealed
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place] + data.draw(st.binary(max_size=20))
    else:
        damaged = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    path.write_bytes(damaged)
    assert damaged == whole or "damaged" in refused(checkpoints.restore, path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "spec", "attar", "x"]), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return save(create_model("resnet8"), tmp_path_factory.mktemp("student") / "student.safetensors")


@settings(max_examples=100, deadline=None)
@given(card=st.one_of(JSON, st.dictionaries(st.just("spec"), st.dictionaries(st.sampled_from(["name", "x"]), JSON))))
def test_a_random_card(student, card):
    student.with_suffix(".json").write_text(json.dumps(card))
    refused(load_card, student)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_weights_file(student, data):
    whole = student.read_bytes()
    net = create_model("resnet8")
    damaged = student.with_name("damaged.safetensors")
    place = data.draw(st.integers(0, 2000))  # the header; a flipped weight is a weight
    byte = whole[place] ^ data.draw(st.integers(1, 255))
    damaged.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    refused(load_weights, net, damaged)
    damaged.write_bytes(whole[:place])
    assert refused(load_weights, net, damaged)


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "folder/../../../outside"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_archive_that_leads_outside(tmp_path, name, kind):
    archive = tmp_path / "deep" / "data.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("folder/link" if kind != tarfile.REGTYPE else name)
        entry.type, entry.linkname = kind, name
        tar.addfile(entry)
    assert "cannot unpack" in refused(unpack, archive, "folder")
    assert [file.name for file in archive.parent.iterdir()] == ["data.tar.gz"]
    assert [file.name for file in tmp_path.iterdir()] == ["deep"]


def test_weights_that_would_unpack_to_gigabytes(tmp_path):
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", pickle.dumps({"a": 1}))
        archive.writestr("net/version", "3\n")
        archive.writestr("net/data/0", b"\0" * 50_000_000)
    assert path.stat().st_size < 100_000
    assert refused(load_weights, create_model("resnet8"), path)


def test_the_fuzzing_can_find_something():
    assert isinstance(read_recipe(overrides=["epochs=2"]), Recipe)
    with pytest.raises(ZeroDivisionError):
        refused(lambda: 1 // 0)
