"""Classifiers out of a folder that save_pretrained wrote."""

import json
from importlib.util import find_spec

import pytest
import torch

from attar.errors import AttarError
from attar.models import Preprocessed, build, create_model, fresh_copy, tap_shapes
from attar.models.libraries.imports import import_transformers

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed", allow_module_level=True)
transformers = import_transformers()
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 8,
    "num_labels": 5,
}
SEEN = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 16, "width": 16}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(folder, the network in it)."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    net = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)).eval()
    net.save_pretrained(folder)
    return folder, net


@pytest.fixture
def images():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_folder_is_a_network(saved, images):
    folder, own = saved
    net = create_model(f"hf/{folder}", 5, image_size=16).eval()
    assert torch.equal(net(images), own(pixel_values=images).logits)
    assert tap_shapes(net, ["pooled"]) == {"pooled": (16,)}
    again = build(json.loads(json.dumps(net.spec))).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(images), net(images))
    assert not torch.equal(
        fresh_copy(net).model.vit.embeddings.patch_embeddings.projection.weight,
        own.vit.embeddings.patch_embeddings.projection.weight,
    )


def test_its_preprocessor_says_what_it_sees(saved, images):
    folder, own = saved
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(SEEN))
    try:
        net = create_model(f"hf/{folder}", 5, image_size=16, mean=(0.4,) * 3, std=(0.2,) * 3).eval()
        larger = create_model(f"hf/{folder}", 5, image_size=20)
        file.write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5]}))
    finally:
        file.unlink()
    assert isinstance(net, Preprocessed)
    expected = own(pixel_values=(images * 0.2 + 0.4 - 0.5) / 0.25).logits
    torch.testing.assert_close(net(images), expected, atol=1e-5, rtol=1e-5)
    assert larger(torch.zeros(1, 3, 20, 20)).shape == (1, 5)


def test_other_classes(saved, images):
    folder, own = saved
    with pytest.raises(AttarError, match=r"is of 5 classes in hf/.*, the ViTForImageClassification has 3"):
        create_model(f"hf/{folder}", 3, image_size=16)
    with pytest.warns(UserWarning, match="begins anew"):
        net = create_model(f"hf/{folder}", 3, image_size=16, head="fresh")
    assert net(images).shape == (2, 3)
    assert torch.equal(net.model.vit.layernorm.weight, own.vit.layernorm.weight)


def test_code_in_a_folder_is_not_run(saved, tmp_path):
    config = json.loads((saved[0] / "config.json").read_text())
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    config |= {"model_type": "evil", "auto_map": {"AutoModelForImageClassification": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AttarError, match=r"transformers makes no image classifier of this config.json"):
        create_model(f"hf/{tmp_path}", 5)


def test_mistakes_are_answered(saved, tmp_path):
    with pytest.raises(
        AttarError, match=r"config.json is missing or no JSON; give a folder written by save_pretrained"
    ):
        create_model(f"hf/{tmp_path}", 5)
    (tmp_path / "config.json").write_text((saved[0] / "config.json").read_text())
    with pytest.raises(AttarError, match=r"cannot be loaded: .*safetensors"):
        create_model(f"hf/{tmp_path}", 5)
    with pytest.raises(AttarError, match="takes no options, got depth"):
        create_model(f"hf/{saved[0]}", 5, depth=3)
