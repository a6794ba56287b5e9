"""Classifiers of transformers as staged networks: the same function, and methods that need stages between them."""

import copy
import json
from importlib.util import find_spec

import pytest
import torch

from attar.batch import Batch
from attar.conformance import check, check_method
from attar.methods import create_method
from attar.models import as_staged, build, fresh_copy, tap_shapes
from attar.models.libraries.imports import import_transformers
from attar.models.libraries.staged_network import LibraryStaged, native_state

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed", allow_module_level=True)
transformers = import_transformers()
SIDE, CLASSES = 16, 6  # as the suite has them
VIT = {"num_attention_heads": 2, "intermediate_size": 16, "image_size": SIDE, "patch_size": 4}
CONVNEXT = {"num_stages": 3, "patch_size": 2, "num_channels": 3, "image_size": SIDE}
SWIN = {"image_size": SIDE, "patch_size": 2, "num_heads": [1, 2, 2], "window_size": 2}
# Of each family: its name in transformers, what is fixed, and what a teacher and a student have.
FAMILIES = {
    "ViT": (VIT, {"hidden_size": 12, "num_hidden_layers": 4}, {"hidden_size": 8, "num_hidden_layers": 4}),
    "DeiT": (VIT, {"hidden_size": 12, "num_hidden_layers": 5}, {"hidden_size": 8, "num_hidden_layers": 4}),
    "ConvNext": (
        CONVNEXT,
        {"hidden_sizes": [8, 12, 16], "depths": [1, 2, 1]},
        {"hidden_sizes": [4, 8, 12], "depths": [1, 1, 1]},
    ),
    "ConvNextV2": (
        CONVNEXT,
        {"hidden_sizes": [8, 12, 16], "depths": [1, 2, 1]},
        {"hidden_sizes": [4, 8, 12], "depths": [1, 1, 1]},
    ),
    "Swin": (SWIN, {"embed_dim": 8, "depths": [1, 2, 1]}, {"embed_dim": 4, "depths": [1, 1, 1]}),
}
STAGES = {"ViT": 4, "DeiT": 4, "ConvNext": 3, "ConvNextV2": 3, "Swin": 3}
# The last maps of the teacher: those of a ViT hold its tokens that are no patches, as further channels.
LAST = {"ViT": (24, 4, 4), "DeiT": (36, 4, 4), "ConvNext": (16, 2, 2), "ConvNextV2": (16, 2, 2), "Swin": (32, 2, 2)}


def classifier(family, role):
    fixed, *roles = FAMILIES[family]
    config = getattr(transformers, f"{family}Config")(num_labels=CLASSES, **fixed, **roles[role == "student"])
    net = getattr(transformers, f"{family}ForImageClassification")(config)
    with torch.no_grad():
        for parameter in net.parameters():  # those that begin as zeros too: tokens and positions
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return net.eval()


def staged(family, role):
    net = as_staged(classifier(family, role))
    assert isinstance(net, LibraryStaged)
    net.input_shape = (3, SIDE, SIDE)
    return net


def images(count=2):
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_same_function_in_stages(family):
    own = classifier(family, "teacher")
    net = as_staged(own)
    assert len(net.stages) == STAGES[family]
    torch.testing.assert_close(net.eval()(images()), own(images()).logits)
    assert tap_shapes(net, [f"stage{STAGES[family]}"], (3, SIDE, SIDE)) == {f"stage{STAGES[family]}": LAST[family]}
    # The parameters are the classifier's own, under its names.
    assert {name: id(held) for name, held in own.named_parameters()} == {
        net.native[key]: id(held) for key, held in net.named_parameters()
    }
    own.load_state_dict({**own.state_dict(), **native_state(net)})
    # It can go on from any stage.
    cut = len(net.stages) - 1
    whole = net.features(images(), taps=[f"stage{cut}"])
    torch.testing.assert_close(net.resume(whole.tap(f"stage{cut}"), start=cut).logits, whole.logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_rebuilt_and_begins_anew(family):
    net = staged(family, "student").eval()
    again = build(json.loads(json.dumps(net.spec))).eval()
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(images()), net(images()))
    other = fresh_copy(net)
    assert not torch.equal(other.classifier.weight, net.classifier.weight)


@pytest.mark.parametrize("family", ["DeiT", "ConvNext", "Swin"])
@pytest.mark.parametrize("name", ["at", "fitnet", "ofa", "simkd", "sokd"])
def test_methods_that_need_stages_run_on_a_pair(family, name):
    options = {"factor": 4} if name == "simkd" else {}
    method = create_method(
        name,
        teacher=staged(family, "teacher"),
        student=staged(family, "student"),
        image_shape=(3, SIDE, SIDE),
        **options,
    )
    losses = check(method, Batch(images(4), torch.arange(4), torch.arange(4), epochs=2))
    assert losses.total.isfinite()


def test_two_families_and_the_zoo_go_together():
    batch = Batch(images(4), torch.arange(4), torch.arange(4), epochs=2)
    for teacher, student in (("Swin", "ConvNext"), ("ConvNext", "DeiT")):
        for name in ("at", "ofa"):
            nets = {"teacher": staged(teacher, "teacher"), "student": staged(student, "student")}
            check(create_method(name, **nets, image_shape=(3, SIDE, SIDE)), batch)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["at", "ofa", "simkd"])
def test_they_pass_the_suite(family, name):
    options = {"factor": 4} if name == "simkd" else {}
    assert check_method(name, networks=lambda: (staged(family, "teacher"), staged(family, "student")), **options)


def test_others_are_not_staged():
    fixed, teacher, _ = FAMILIES["DeiT"]
    config = transformers.DeiTConfig(num_labels=CLASSES, **fixed, **teacher)
    assert as_staged(transformers.DeiTForImageClassificationWithTeacher(config)) is None
    assert as_staged(transformers.DeiTModel(config)) is None


def test_a_copy_has_its_own_parameters():
    net = staged("Swin", "student")
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.classifier.weight.zero_()
    assert net.classifier.weight.abs().sum() > 0
