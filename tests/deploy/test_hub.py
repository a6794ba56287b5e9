"""A student pushed to a hub and loaded from it; the hub is a local folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

import attar
from attar.errors import AttarError

huggingface_hub = pytest.importorskip("huggingface_hub")
from attar.deploy.hub import HubStudent  # noqa: E402 - after the check for the package


@pytest.fixture(scope="module")
def pushed(run, tmp_path_factory):
    """The folder that `push_to_hub` uploads."""
    folder = tmp_path_factory.mktemp("hub") / "student"
    uploaded = []

    class Hub:
        def __init__(self, **_):
            pass

        def create_repo(self, repo_id, **_):
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **_):
            folder.mkdir()
            for file in sorted(folder_path.iterdir()):
                (folder / file.name).write_bytes(file.read_bytes())
            uploaded.append(repo_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
        HubStudent.of_run(run, license="apache-2.0").push_to_hub("owner/student")
    assert uploaded == ["owner/student"]
    return folder


def test_what_was_pushed_is_loaded_with_equal_outputs(run, pushed):
    student = HubStudent.from_pretrained(pushed)
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(student(images), attar.load(run)(images))
    assert not student.training


def test_the_repository_has_a_card_and_how_images_are_prepared(run, pushed):
    card = json.loads((pushed / "config.json").read_text())["card"]
    held = json.loads((run / "student.json").read_text())
    assert {key: card[key] for key in ("spec", "classes", "mean", "std", "image_shape")} == {
        key: held[key] for key in ("spec", "classes", "mean", "std", "image_shape")
    }
    _, front, page = (pushed / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(front)
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == (
        "apache-2.0", "attar", "image-classification",
    )  # fmt: skip
    assert f"| student | {100 * held['test']['top1']:.2f} |" in page
    assert "HubStudent.from_pretrained" in page
    assert "## Files" not in page


def test_it_labels_files_as_the_run_does(run, pushed, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (3, 10, 12), np.uint8)
    for number, one in enumerate(pixels):
        image.fromarray(one).save(tmp_path / f"{number}.png")
    assert HubStudent.from_pretrained(pushed).label(tmp_path, top=2) == attar.predict(run, tmp_path, top=2)


def test_a_student_from_the_hub_is_saved_again_as_it_was(pushed, tmp_path):
    HubStudent.from_pretrained(pushed).save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (pushed / name).read_bytes()


def test_a_repository_without_a_network_or_with_other_weights_is_one_line(pushed, tmp_path):
    with pytest.raises(AttarError, match="the card names no network"):
        HubStudent({})
    HubStudent.from_pretrained(pushed).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["card"]["spec"]["name"] = "resnet14"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AttarError, match=r"model\.safetensors"):
        HubStudent.from_pretrained(tmp_path)
