"""Weights from files, and why they do not fit."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from attar.errors import AttarError
from attar.models import create_model, fingerprint, load_weights

DATA = Path(os.environ.get("ATTAR_DATA", Path(__file__).parents[3] / "shared" / "data"))


def same(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def torch_file(path, held):
    torch.save(held, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"model_state_dict": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
        lambda state: {"net": {f"backbone.{key}": value for key, value in state.items()}, "acc": 76.2},
        lambda state: {"model": {key: value + 1 for key, value in state.items()}, "model_ema": state},
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ],
)
def test_torch_files(tmp_path, wrap):
    source = create_model("resnet8")
    path = torch_file(tmp_path / "net.pth", wrap(source.state_dict()))
    assert same(source, create_model("resnet8", weights=path))


def test_a_fresh_head_keeps_the_rest(tmp_path):
    source = create_model("resnet8", num_classes=10)
    net = create_model("resnet8", num_classes=4)
    head = net.fc.weight.clone()
    with pytest.warns(UserWarning, match="has 10 classes, not 4: the classifier 'fc' begins anew, the rest is loaded"):
        load_weights(net, torch_file(tmp_path / "net.pth", source.state_dict()), head="fresh")
    assert torch.equal(net.layer3[0].conv1.weight, source.layer3[0].conv1.weight)
    assert torch.equal(net.fc.weight, head)


def test_prefixes_that_are_the_network_s_own_stay(tmp_path):
    source = torch.nn.ModuleDict({"model": torch.nn.Linear(2, 2)})
    net = torch.nn.ModuleDict({"model": torch.nn.Linear(2, 2)})
    load_weights(net, torch_file(tmp_path / "net.pth", source.state_dict()))
    assert same(source, net)


def test_safetensors(tmp_path):
    source = create_model("resnet8")
    safetensors.torch.save_file(source.state_dict(), tmp_path / "net.safetensors")
    assert same(source, create_model("resnet8", weights=tmp_path / "net.safetensors"))


def test_missing_file(tmp_path):
    with pytest.raises(AttarError, match=r"no weights at .*net\.pth; give the path"):
        create_model("resnet8", weights=tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut short"])
def test_corrupt_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AttarError, match=r"cannot read .* as weights"):
        create_model("resnet8", weights=tmp_path / name)


def test_a_pickled_object_is_not_run(tmp_path):
    with pytest.raises(AttarError, match=r"cannot read .* as weights"):
        create_model("resnet8", weights=torch_file(tmp_path / "net.pth", create_model("resnet8")))


@pytest.mark.parametrize("held", [{"epoch": 3}, {}, [1, 2], torch.zeros(2)])
def test_no_state_dict(tmp_path, held):
    with pytest.raises(AttarError, match="holds no state dict"):
        create_model("resnet8", weights=torch_file(tmp_path / "net.pth", held))


def test_another_architecture(tmp_path):
    path = torch_file(tmp_path / "net.pth", create_model("resnet8").state_dict())
    with pytest.raises(AttarError, match=r"not of this ResNet: 36 missing \(first 'layer1.1.conv1.weight'\); name"):
        create_model("resnet14", weights=path)
    with pytest.raises(
        AttarError, match=r"missing \(first 'stage1.0.bn1.weight'\), .* unexpected \(first 'bn1.weight'"
    ):
        create_model("wrn_16_1", weights=path)


def test_other_shapes_change_nothing(tmp_path):
    path = torch_file(tmp_path / "net.pth", create_model("resnet8", num_classes=10).state_dict())
    net = create_model("resnet8")
    before = net.conv1.weight.clone()
    with pytest.raises(AttarError, match=r"'fc.weight' is of 10 classes in .*net.pth, the ResNet has 100"):
        load_weights(net, path)
    assert torch.equal(net.conv1.weight, before)


@pytest.mark.data
@pytest.mark.parametrize("name", ["resnet20", "resnet32", "resnet44", "resnet56"])
def test_published_checkpoints(name):
    path = DATA / "weights" / f"cifar100-{name}.pth"
    if not path.is_file():
        pytest.skip(f"no {path}; set ATTAR_DATA")
    net = create_model(name, weights=path)
    assert torch.equal(net.fc.bias, torch.load(path, weights_only=True)["fc.bias"])


def net_and_state():
    net = create_model("resnet8", num_classes=10)
    return net, create_model("resnet8", num_classes=10).state_dict()


WRAPPED = {
    "ema with its count": lambda state: {
        "model_ema": {"n_averaged": torch.tensor(3), **{f"module.{key}": value for key, value in state.items()}}
    },
    "ema": lambda state: {"ema": state, "epoch": 3},
    "beside a criterion": lambda state: {
        "state_dict": {**{f"model.{key}": value for key, value in state.items()}, "criterion.weight": torch.zeros(10)}
    },
    "profiled": lambda state: {**state, "total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)},
    "a part in DDP": lambda state: {key.replace("layer1.", "layer1.module."): value for key, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "two prefixes": lambda state: {f"learner.net.{key}": value for key, value in state.items()},
}


@pytest.mark.filterwarnings("ignore:.*entries beside the network are left out")
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_checkpoints_are_loaded(tmp_path, wrap):
    net, state = net_and_state()
    torch.save(wrap(state), tmp_path / "net.pth")
    load_weights(net, tmp_path / "net.pth")
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_what_is_left_out_is_counted(tmp_path):
    net, state = net_and_state()
    torch.save(WRAPPED["beside a criterion"](state), tmp_path / "net.pth")
    with pytest.warns(UserWarning, match=r"1 entries beside the network are left out \(first 'criterion.weight'\)"):
        load_weights(net, tmp_path / "net.pth")


def test_a_larger_network_is_not_taken_for_a_wrapped_one(tmp_path):
    net, state = net_and_state()
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(AttarError, match=r"1 unexpected \(first 'extra.weight'\)"):
        load_weights(net, tmp_path / "net.pth")


@pytest.mark.parametrize("beside", [{"decay": 0.9}, {}, {"updates": 3}])
def test_an_average_without_tensors_leaves_the_weights_beside_it(tmp_path, beside):
    net, other = create_model("resnet8"), create_model("resnet8")
    load_weights(other, torch_file(tmp_path / "a.pth", {"ema": beside, "model": net.state_dict()}))
    assert same(net, other)


@pytest.mark.parametrize("change", [lambda x: (127 * x).to(torch.int8), lambda x: x.to_sparse()])
def test_codes_and_sparse_tensors_are_no_weights_and_change_nothing(tmp_path, change):
    net = create_model("resnet8")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = {key: change(value) if key == "conv1.weight" else value for key, value in net.state_dict().items()}
    assert "conv1.weight" in state
    with pytest.raises(AttarError, match="not quantised or sparse"):
        load_weights(net, torch_file(tmp_path / "a.pth", state))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_extra_state_that_is_no_tensor_has_a_fingerprint():
    class Extra(torch.nn.Linear):
        def get_extra_state(self):
            return {"version": self.out_features}

    assert fingerprint(Extra(2, 2)) != fingerprint(Extra(2, 3))
