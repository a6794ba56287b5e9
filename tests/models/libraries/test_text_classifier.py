"""Text classifiers of transformers as networks: staged, with attention and first tokens as taps."""

import copy
import subprocess
import sys

import pytest
import torch

from attar.errors import AttarError
from attar.models import build, create_model
from attar.models.libraries.create import is_untrained
from attar.models.surgery.staged import Staged
from attar.models.surgery.taps import observe, tap_paths

transformers = pytest.importorskip("transformers")
SIZES = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.randint(1, 60, (3, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 3 + [0] * 4])
INPUTS = {"input_ids": IDS, "attention_mask": MASK}


def bert(classes=3, **options):
    torch.manual_seed(0)
    options = {**SIZES, "vocab_size": 64, "pad_token_id": 0, **options}
    return create_model("hf-config/bert", num_classes=classes, image_size=7, **options).eval()


def of_transformers(kind, **options):
    """A model of transformers, and the same one computing its attention openly."""
    torch.manual_seed(0)
    sizes = SIZES
    if kind == "distilbert":
        sizes = {"n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32}
    config = transformers.AutoConfig.for_model(kind, vocab_size=64, num_labels=3, pad_token_id=0, **sizes, **options)
    make = transformers.AutoModelForSequenceClassification.from_config
    model, eager = make(copy.deepcopy(config)).eval(), make(config, attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    return model, eager


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_logits_and_attention_are_those_of_transformers(kind):
    from attar.models.libraries.text_classifier import wrapped

    model, eager = of_transformers(kind, **({"embedding_size": 8} if kind == "electra" else {}))
    expected = eager(IDS, attention_mask=MASK, output_attentions=True, output_hidden_states=True)
    net = wrapped(model).eval()
    output = observe(net, INPUTS, ["layer1.attention", "layer2.attention", "layer1.cls"])
    assert torch.allclose(output.logits, expected.logits, atol=1e-6)
    assert torch.allclose(output.tap("layer1.cls"), expected.hidden_states[1][:, 0], atol=1e-6)
    for number in (1, 2):
        attention = output.tap(f"layer{number}.attention")
        real = MASK.bool()[:, None, :, None]
        assert torch.allclose(attention, expected.attentions[number - 1] * real, atol=1e-6)
        assert torch.equal(attention.sum((1, 3)) > 0, MASK.bool())


def test_its_layers_are_stages_that_run_alone_and_padding_changes_nothing():
    net = bert()
    assert isinstance(net, Staged)
    output = observe(net, INPUTS, ["stem", "stage1", "pooled"])
    again = net.resume(output.tap("stage1"), start=1)
    assert torch.equal(again.logits, output.logits)
    assert torch.allclose(net(IDS[2:, :3]), output.logits[2:], atol=1e-6)
    torch.testing.assert_close(net.classifier(output.tap("pooled")), output.logits)
    assert {"layer1.attention", "layer2.cls", "stage1.attention.self.query"} <= {*tap_paths(net)}


def test_attention_is_compared_before_dropout():
    net = bert(attention_probs_dropout_prob=0.9, hidden_dropout_prob=0.0).train()
    torch.manual_seed(1)
    first, second = (observe(net, INPUTS, ["layer1.attention", "stage1"]) for _ in range(2))
    assert torch.equal(first.tap("layer1.attention"), second.tap("layer1.attention"))
    assert not torch.equal(first.tap("stage1"), second.tap("stage1"))


def test_pairs_have_a_second_kind_of_embedding():
    net, types = bert(), torch.tensor([[0, 0, 0, 1, 1, 1, 1]]).expand(3, -1)
    assert not torch.allclose(net(**INPUTS, token_type_ids=types), net(**INPUTS), atol=1e-6)


def test_it_is_rebuilt_from_its_spec_and_drawn_anew():
    net = bert()
    again = build(net.spec)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(**INPUTS), net(**INPUTS))
    again.initialise()
    assert again.embeddings.word_embeddings.weight[0].abs().sum() == 0
    assert again.stage1.attention.self.query.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_a_bare_encoder_gets_a_classifier_and_is_trained_first(tmp_path):
    model, _ = of_transformers("bert")
    model.bert.save_pretrained(tmp_path / "bare")
    model.save_pretrained(tmp_path / "whole")
    sizes = {"num_classes": 3, "image_size": 7, "vocab_size": 64}
    bare, whole = (create_model(f"hf/{tmp_path / name}", **sizes).eval() for name in ("bare", "whole"))
    assert torch.allclose(whole(**INPUTS), model(IDS, attention_mask=MASK).logits, atol=1e-6)
    last = [observe(net, INPUTS, ["stage2"]).tap("stage2") for net in (bare, whole)]
    assert torch.equal(*last)
    assert [is_untrained(f"hf/{tmp_path / name}") for name in ("bare", "whole")] == [True, False]
    # A configuration out of a folder, with a change.
    small = create_model(f"hf-config/{tmp_path / 'bare'}", **sizes, num_hidden_layers=1)
    assert len(small.stages) == 1
    with pytest.raises(AttarError, match="other classes than the data's 2"):
        create_model(f"hf/{tmp_path / 'whole'}", **{**sizes, "num_classes": 2})
    assert (
        create_model(f"hf/{tmp_path / 'whole'}", **{**sizes, "num_classes": 2}, head="fresh").linear.out_features == 2
    )


def test_mistakes_are_named(tmp_path):
    with pytest.raises(AttarError, match=r"num_layers.*num_hidden_layers"):
        bert(num_layers=2)
    with pytest.raises(AttarError, match=r"sentences have 9 tokens, the network takes 8.*data.max_length"):
        bert(max_position_embeddings=8)(torch.ones(1, 9, dtype=torch.long))
    of_transformers("bert")[0].save_pretrained(tmp_path)
    with pytest.raises(AttarError, match="vocabulary of 64 tokens, the data's tokenizer 65"):
        create_model(f"hf/{tmp_path}", num_classes=3, vocab_size=65)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(AttarError, match=r"cannot be loaded.*save_pretrained"):
        create_model(f"hf/{tmp_path}", num_classes=3, vocab_size=64)


def test_a_folder_with_a_configuration_is_of_its_kind(tmp_path):
    from attar.models.libraries.configurations import named_kind

    of_transformers("bert")[0].save_pretrained(tmp_path)
    assert named_kind(f"hf-config/{tmp_path}") == "hf-config/bert"


def test_a_new_process_builds_it_from_its_spec():
    kinds = "import attar.models; print('text_classifier' in attar.models.registry.BUILDERS)"
    found = subprocess.run([sys.executable, "-c", kinds], capture_output=True, text=True, check=True)
    assert found.stdout == "True\n"
