"""Which student a path means, and what the error says where there is none yet."""

import json
import shutil

import pytest
import torch

from attar.deploy import find_trained, load
from attar.deploy.scored_file import open_scored
from attar.errors import AttarError
from attar.profiling import read_results


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def test_a_folder_and_a_file_mean_the_same(run):
    one, other = find_trained(run), find_trained(run / "student.safetensors")
    assert one == other
    assert one.results[1][0].keys() == {"alone", "student"}


def test_what_lies_beside_the_student_has_no_results_of_its_own(run):
    found = find_trained(run / "alone")
    assert found.card["method"] == "supervised"
    assert found.results is None
    assert find_trained(run / "teacher" / "student.safetensors").results is None


def test_of_several_seeds_the_first(copy, tmp_path):
    job = tmp_path / "job"
    for seed in (10, 2):
        shutil.copytree(copy, job / f"seed{seed}")
        (job / f"seed{seed}" / "results.json").unlink()
    shutil.move(copy / "results.json", job / "results.json")
    shutil.move(copy / "recipe.yaml", job / "recipe.yaml")
    found = find_trained(job)
    assert found.weights == job / "seed2" / "student.safetensors"
    assert found.folder == job
    assert find_trained(job / "seed10").results == read_results(job)
    assert open_scored(job).path == found.weights
    first = load(job / "seed2").state_dict()
    assert all(torch.equal(one, first[name]) for name, one in load(job).state_dict().items())
    (job / "results.json").unlink()
    with pytest.raises(AttarError, match="is not finished; `attar resume"):
        find_trained(job)


def test_an_unfinished_run(copy):
    (copy / "scores.json").unlink()
    with pytest.raises(AttarError, match=f"the run in {copy} is not finished; `attar resume {copy}` goes on with it"):
        find_trained(copy)
    (copy / "student.safetensors").unlink()
    with pytest.raises(AttarError, match="is not finished"):
        find_trained(copy)


def test_what_is_no_run(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "empty", "holds no run"),
        (tmp_path / "none", "does not exist"),
        (copy / "recipe.yaml", "cannot be read back; give an ONNX file"),
    ):
        with pytest.raises(AttarError, match=message):
            find_trained(path)


def test_a_card_without_facts(copy):
    card = json.loads((copy / "student.json").read_text())
    del card["mean"]
    (copy / "student.json").write_text(json.dumps(card))
    with pytest.raises(AttarError, match=r"student\.json has no mean; it was not written by a run"):
        find_trained(copy)
