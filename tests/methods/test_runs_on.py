"""Every method asked of networks that it cannot use names some that it can, and runs on those."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.conformance.pairs import methods_for
from attar.errors import AttarError, PairError
from attar.methods import Offline, create_method, list_methods, method_info
from attar.methods.common.runs_on import PAIRS, pairs_of, runs_on
from attar.methods.registry import METHODS
from attar.models import create_model

CLASSES, SIDE, ROWS = 6, 8, 4
ONE_OF_EACH_NEED = ("kd", "cc", "wkdl", "ft", "rsd", "byot", "iakd")


class Bare(nn.Module):
    """A classifier without a linear layer, stages, or a way to initialise it anew."""

    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, stride=2)
        self.last = nn.Parameter(torch.randn(width, CLASSES))

    def forward(self, images):
        return self.first(images).relu().mean((2, 3)) @ self.last


def own(names=None):
    """The package's methods, without those of other tests."""
    found = names or list_methods()
    return [name for name in found if METHODS[name].cls.__module__.startswith("attar.methods.")]


def refusal(name, teacher, student, classes=CLASSES):
    """The error of a first batch, or None."""
    info = method_info(name)
    images, labels = torch.randn(ROWS, 3, SIDE, SIDE), torch.arange(ROWS) % classes
    try:
        method = create_method(
            name, teacher=teacher if info.takes_teacher else None, student=student, image_shape=(3, SIDE, SIDE)
        )
        method.setup(labels)
        views = dict.fromkeys(method.views(), images)
        method.batch_losses(Batch(images, labels, torch.arange(ROWS), epochs=2, views=views))
    except AttarError as error:
        return error
    return None


def names_a_pair(name, error):
    """Whether an error is about the networks and ends with those that the method runs on."""
    return isinstance(error, PairError) and str(error).endswith(f"; {name} runs on {method_info(name).runs_on}")


def test_of_networks_without_anything_each_method_names_some():
    found = {name: refusal(name, Bare(8), Bare()) for name in own() if name != "okd"}  # which imports peft
    refused = {name for name, error in found.items() if error is not None}
    assert [name for name in refused if not names_a_pair(name, found[name])] == []
    logits = {name for name in own() if method_info(name).needs == ("logits",)}
    assert refused >= set(own()) - logits
    assert refused & logits == {"bdkd", "dml", "kdcl", "kdp2p"}  # their peers are initialised anew


def test_of_two_families_each_method_that_needs_one_names_it():
    pair = create_model("resnet14", CLASSES, image_size=SIDE), create_model("vgg8", CLASSES, image_size=SIDE)
    needing = [name for name in own() if "family" in method_info(name).needs]
    assert needing == ["encoderkd", "exchangekd", "fcfd", "fsp", "iakd", "skt"]
    assert [name for name in needing if not names_a_pair(name, refusal(name, *pair))] == []


@pytest.mark.parametrize("name", ["kd", "catkd", "sdd", "atsc", "rsd"])
def test_networks_of_other_classes(name):
    pair = create_model("resnet14", CLASSES, image_size=SIDE), create_model("resnet8", CLASSES - 1, image_size=SIDE)
    assert names_a_pair(name, refusal(name, *pair, CLASSES - 1))


@pytest.mark.slow
def test_networks_of_other_classes_with_every_method():
    for name in own():
        pair = create_model("resnet14", CLASSES, image_size=SIDE), create_model("resnet8", CLASSES - 1, image_size=SIDE)
        error = refusal(name, *pair, CLASSES - 1)
        assert error is None or names_a_pair(name, error), (name, error)


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_transformers_of_two_widths():
    sizes = {"patch_size": 4, "num_heads": 2, "input_size": SIDE, "depth": 2}
    pair = (
        create_model("timm/vit_tiny_patch16_224", CLASSES, image_size=SIDE, embed_dim=width, **sizes)
        for width in (12, 8)
    )
    assert names_a_pair("internal", refusal("internal", *pair))


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_a_transformer_has_no_branches_of_other_sizes():
    sizes = {"patch_size": 4, "embed_dim": 8, "num_heads": 2, "input_size": SIDE, "depth": 2}
    student = create_model("timm/vit_tiny_patch16_224", CLASSES, image_size=SIDE, **sizes)
    for name in ("uakd", "byot", "dks", "dcm", "rsd"):
        assert names_a_pair(name, refusal(name, None, student)), name


def test_a_method_of_ones_own_gives_the_reason_alone():
    class Fussy(Offline):
        needs = ("pooled",)
        name, runs_on = "fussy", runs_on(needs)

        def transfers(self):
            raise PairError("too wide")

    pair = create_model("resnet14", CLASSES), create_model("resnet8", CLASSES)
    with pytest.raises(
        PairError, match=r"^too wide; fussy runs on networks that end in a linear layer, such as resnet56"
    ):
        Fussy(*pair).edges  # noqa: B018


def failures(names):
    """Of the pairs that methods name, what they do not run on."""
    found = {}
    for name in names:
        pairs = pairs_of(method_info(name).needs)
        side = 32 if "layers" in method_info(name).needs else SIDE
        teacher = create_model(pairs.teacher, CLASSES, image_size=side)
        student = create_model(pairs.student, CLASSES, image_size=side, **pairs.options)
        found |= dict(methods_for(teacher, student, [name], (3, side, side), CLASSES))
    return {name: reason for name, reason in found.items() if reason}


def test_methods_run_on_the_pairs_they_name():
    assert {need for name in ONE_OF_EACH_NEED for need in method_info(name).needs} | {"layers"} == set(PAIRS)
    assert failures(["byot", "iakd"]) == {}


@pytest.mark.slow
def test_all_methods_run_on_the_pairs_they_name():
    assert failures(own(["internal"] * (find_spec("timm") is not None))) == {}
    assert failures([name for name in own() if name != "internal"]) == {}


def test_joined_methods_name_what_the_most_demanding_needs():
    pair = {"teacher": create_model("resnet14", CLASSES), "student": create_model("resnet8", CLASSES)}
    assert create_method("kd+at", **pair).runs_on == method_info("at").runs_on
    assert "layers named by path" in method_info("at").runs_on
