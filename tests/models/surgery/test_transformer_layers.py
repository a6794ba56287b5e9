"""Attention and first tokens of vision transformers and GPT-2; students that start from a teacher's layers."""

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.models import create_model
from attar.models.surgery.layer_start import compressed_layers, start_from_layers
from attar.models.surgery.taps import observe
from attar.models.surgery.transformer_layers import layer_taps

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def vit(depth=4, **options):
    pytest.importorskip("timm")
    sizes = {"embed_dim": 24, "num_heads": 3, "patch_size": 8, "input_size": 32, "depth": depth}
    return create_model("timm/vit_tiny_patch16_224", num_classes=5, **{**sizes, **options}).eval()


def test_attention_of_a_staged_vit_of_timm_is_the_librarys_own():
    net, seen = vit(), {}
    attention = net.get_submodule("stage4.0.0.attn")
    attention.fused_attn = False
    with attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.update(own=output)):
        output = observe(net, IMAGES, ["layer4.attention", "layer4.cls", "stage4"])
    assert torch.allclose(output.tap("layer4.attention"), seen["own"], atol=1e-6)
    # The class token is behind the 24 channels of the patches.
    assert torch.equal(output.tap("layer4.cls"), output.tap("stage4")[:, 24:, 0, 0])


def test_attention_of_a_vit_of_transformers_is_the_librarys_own(tmp_path):
    pytest.importorskip("torchvision")
    from attar.models.libraries.imports import import_transformers

    pytest.importorskip("transformers")
    transformers = import_transformers()
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=32, patch_size=8
    )
    model = transformers.ViTForImageClassification._from_config(config, attn_implementation="eager").eval()
    expected = model(pixel_values=IMAGES, output_attentions=True).attentions
    model.save_pretrained(tmp_path)
    net = create_model(f"hf/{tmp_path}", num_classes=2).eval()
    assert layer_taps(net) == ["layer1.attention", "layer1.cls", "layer2.attention", "layer2.cls"]
    output = observe(net, IMAGES, ["layer1.attention", "layer2.attention"])
    for number in (1, 2):
        assert torch.allclose(output.tap(f"layer{number}.attention"), expected[number - 1], atol=1e-6)


def test_attention_of_gpt2_looks_back_alone_and_has_no_class_token():
    pytest.importorskip("transformers")
    sizes = {"n_layer": 2, "n_embd": 8, "n_head": 2, "n_positions": 6}
    net = create_model("hf-config/gpt2", num_classes=32, image_size=6, **sizes).eval()
    assert layer_taps(net) == ["layer1.attention", "layer2.attention"]
    attention = observe(net, torch.arange(6)[None], ["layer2.attention"]).tap("layer2.attention")
    assert attention.triu(1).abs().max() == 0
    torch.testing.assert_close(attention.sum(-1), torch.ones(1, 2, 6))


def test_other_networks_have_no_such_taps():
    assert layer_taps(create_model("resnet8")) == []
    with pytest.raises(AttarError, match=r"layer1\.attention"):
        observe(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 1, 2, 2), ["layer1.attention"])


def test_a_student_starts_from_the_last_of_the_layers_it_compresses():
    teacher, student = vit(4), vit(2)
    start_from_layers(student, teacher)
    whole, own = (observe(net, IMAGES, [f"layer{number}.cls" for number in (1, 2)]) for net in (teacher, student))
    assert not torch.equal(whole.tap("layer1.cls"), own.tap("layer1.cls"))
    for number, theirs in ((1, 2), (2, 4)):
        weights = [net.get_submodule(f"stage{n}.0.0").state_dict() for net, n in ((student, number), (teacher, theirs))]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
    assert torch.equal(student.linear.weight, teacher.linear.weight)
    same = vit(4)
    start_from_layers(same, teacher)
    assert torch.equal(same(IMAGES), teacher(IMAGES))


def test_a_student_that_cannot_start_so_is_one_line():
    with pytest.raises(AttarError, match=r"is \(72, 24\)|teacher's family and width"):
        start_from_layers(vit(2, embed_dim=12), vit(4))
    with pytest.raises(AttarError, match="has 4 transformer layers, the teacher 2"):
        start_from_layers(vit(4), vit(2))
    with pytest.raises(AttarError, match="has 0 transformer layers, the teacher 4"):
        start_from_layers(create_model("resnet8"), vit(4))
    assert compressed_layers(12, 5) == [2, 4, 7, 9, 12]
