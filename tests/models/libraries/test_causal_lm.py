"""Language models of transformers as networks."""

import pytest
import torch

from attar.errors import AttarError
from attar.models import build, create_model
from attar.models.surgery.staged import Staged
from attar.models.surgery.taps import observe

transformers = pytest.importorskip("transformers")
SMALL = {"n_layer": 3, "n_embd": 16, "n_head": 2, "n_positions": 8}
IDS = torch.randint(256, (2, 8), generator=torch.Generator().manual_seed(0))


def gpt2():
    torch.manual_seed(0)
    return create_model("hf-config/gpt2", num_classes=256, **SMALL).eval()


def test_a_staged_gpt2_computes_what_transformers_does():
    from attar.models.libraries.causal_lm import wrapped

    config = transformers.AutoConfig.for_model(**gpt2().spec["config"])
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    expected = model(IDS).logits
    assert torch.allclose(wrapped(model).eval()(IDS), expected, atol=1e-6)


def test_its_blocks_are_stages():
    net = gpt2()
    assert isinstance(net, Staged)
    output = observe(net, IDS, ["stage2", "pooled"])
    assert output.logits.shape == (2, 8, 256)
    assert output.tap("stage2").shape == (2, 8, 16)
    again = net.resume(output.tap("stage2"), start=2)
    assert torch.equal(again.logits, output.logits)


def test_it_is_causal():
    net, other = gpt2(), IDS.clone()
    other[:, 5:] = 0
    assert torch.allclose(net(IDS)[:, :5], net(other)[:, :5], atol=1e-6)
    assert not torch.allclose(net(IDS)[:, 5:], net(other)[:, 5:])


def test_it_is_rebuilt_from_its_spec():
    net = gpt2()
    again = build(net.spec)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(IDS), net(IDS))


def test_other_families_give_logits_and_module_paths():
    net = create_model(
        "hf-config/llama",
        num_classes=256,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    assert net(IDS).shape == (2, 8, 256)
    assert net(input_ids=IDS, attention_mask=torch.ones_like(IDS)).shape == (2, 8, 256)


def test_a_folder_of_another_vocabulary_is_refused(tmp_path):
    config = transformers.AutoConfig.for_model(**gpt2().spec["config"])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert create_model(f"hf/{tmp_path}", num_classes=256)(IDS).shape == (2, 8, 256)
    with pytest.raises(AttarError, match="vocabulary of 256 tokens, the data's tokenizer 300"):
        create_model(f"hf/{tmp_path}", num_classes=300)


def test_mistakes_are_named():
    with pytest.raises(AttarError, match=r"n_layers.*n_layer"):
        create_model("hf-config/gpt2", num_classes=256, n_layers=2)
    with pytest.raises(AttarError, match="sequences have 9 tokens, the network takes 8"):
        gpt2()(torch.zeros(1, 9, dtype=torch.long))


@pytest.mark.parametrize("kind", ["bert", "xlnet"])
def test_a_network_that_sees_the_next_token_is_refused(kind):
    sizes = {"bert": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8},
             "xlnet": {"d_model": 8, "n_layer": 1, "n_head": 1, "d_inner": 8}}  # fmt: skip
    with pytest.raises(AttarError, match="sees the tokens that it is to predict"):
        create_model(f"hf-config/{kind}", num_classes=16, image_size=8, **sizes[kind])
    if kind == "bert":
        create_model("hf-config/bert", num_classes=16, image_size=8, is_decoder=True, **sizes[kind])


def test_a_language_model_saved_in_bfloat16_trains_in_float32(tmp_path):
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=8, vocab_size=16)
    transformers.GPT2LMHeadModel(config).bfloat16().save_pretrained(tmp_path)
    from attar.models.libraries.causal_lm import from_folder

    net = from_folder(tmp_path, 16)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_a_network_for_images_is_refused_by_its_kind():
    with pytest.raises(AttarError, match=r"hf-config/vit is no language model; .* for images give timm/NAME"):
        create_model("hf-config/vit", num_classes=4, image_size=8, hidden_size=8)
