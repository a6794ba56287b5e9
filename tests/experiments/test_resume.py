"""A run that was interrupted and resumed is the run that was not, bit for bit."""

import signal

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.train import checkpoint as checkpoints
from attar.train.loop import put_back

KINDS = {
    "kd": ("kd", {}, {}),
    "dml": ("dml", {}, {}),
    "simkd": ("simkd", {}, {"clip_norm": 1.0}),
    "ema": ("supervised", {}, {"ema": 0.9, "select": "best"}),
    "accumulate": ("kd", {}, {"accumulate": 2, "name": "adamw", "lr": 0.001}),
    "fitnet": ("kd+fitnet", {}, {"label_smoothing": 0.1}),
}


MOMENTS = {
    "first epoch": (0, 1, signal.SIGTERM),
    "mid-epoch": (1, 2, signal.SIGINT),
    "epoch's end": (0, 3, signal.SIGTERM),
    "crash": (1, 1, "crash"),
    "the very end": (1, 3, signal.SIGTERM),
}


def pairs():
    """KD at every moment and what is no method at a crash; `make test-all` tests all pairs.

    A crash of one method of each kind is in safety/test_kills.py.
    """
    for moment, where in MOMENTS.items():
        for kind in KINDS:
            often = kind == "kd" or (moment == "crash" and kind in ("ema", "accumulate"))
            slow = [] if often else [pytest.mark.slow]
            yield pytest.param(kind, *where, id=f"{moment}-{kind}", marks=slow)


@pytest.mark.parametrize(("kind", "epoch", "step", "how"), list(pairs()))
def test_resumed_equals_uninterrupted(tiny, whole, kind, epoch, step, how):
    expected, metrics = whole(kind)
    name, options, optim = KINDS[kind]
    broken = tiny(name, options, **optim)
    broken.stopped_fit(epoch, step, how)
    torch.rand(7)  # another process draws other numbers
    broken.fit()
    assert broken.metrics == metrics
    assert [key for key, tensor in broken.state.items() if not torch.equal(tensor, expected[key])] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory, training):
    """The uninterrupted run of each kind, once."""
    kept = {}

    def run(kind):
        if kind not in kept:
            name, options, optim = KINDS[kind]
            one = training(tmp_path_factory.mktemp("whole"), name, options, **optim)
            one.fit()
            kept[kind] = ({key: tensor.clone() for key, tensor in one.state.items()}, one.metrics)
        return kept[kind]

    return run


def test_a_student_with_dropout_resumes_exactly(tiny, training, monkeypatch):
    class Dropping(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

    monkeypatch.setattr(training, "net", lambda self, name: Dropping())
    one, other = tiny("kd"), tiny("kd")
    one.fit()
    other.stopped_fit(0, 2)
    torch.rand(3)
    other.fit()
    assert one.metrics == other.metrics
    assert torch.equal(one.state["student.module.2.weight"], other.state["student.module.2.weight"])


def test_training_leaves_the_global_generator_alone(tiny):
    before = torch.get_rng_state()
    tiny("kd", epochs=1).fit()
    assert torch.equal(before, torch.get_rng_state())


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tiny):
    whole, broken = tiny("kd"), tiny("kd")
    whole.fit()
    broken.stopped_fit(1, 2)
    (broken.folder / "checkpoint.pt").write_bytes(b"half")
    printed = broken.fit()
    assert "checkpoint.pt is damaged; going on from the checkpoint before it" in printed
    assert broken.metrics == whole.metrics
    assert all(torch.equal(tensor, whole.state[key]) for key, tensor in broken.state.items())


def test_two_damaged_checkpoints_are_an_error(tiny):
    broken = tiny("kd")
    broken.stopped_fit(1, 2)
    for file in broken.folder.glob("checkpoint*.pt"):
        file.write_bytes(b"half")
    with pytest.raises(AttarError, match=r"checkpoint.pt is damaged and so is the checkpoint before it"):
        broken.fit()


def test_an_optimiser_whose_entries_are_of_other_types_is_one_line(tiny):
    method = tiny("kd").new_method()
    optimisers = {"": torch.optim.SGD(method.parameters())}
    state = checkpoints.Checkpoint(method.state_dict(), {"": {"state": {}, "param_groups": [0.5]}})
    with pytest.raises(AttarError, match="the checkpoint is of another recipe, or damaged"):
        put_back(state, method, optimisers, None)


def test_a_checkpoint_of_another_recipe_is_one_line(tiny):
    broken = tiny("kd")
    broken.stopped_fit(0, 2)
    broken.name = "fitnet"
    with pytest.raises(AttarError, match=r"the checkpoint is of another recipe"):
        broken.fit()


def test_a_crash_while_saving_keeps_the_last_checkpoint(tiny, monkeypatch):
    whole, broken = tiny("kd"), tiny("kd")
    whole.fit()
    broken.stopped_fit(1, 1)
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("No space left")))
    with pytest.raises(AttarError, match=r"cannot write .*checkpoint\.pt: No space left"):
        broken.fit()
    monkeypatch.undo()
    assert sorted(file.name for file in broken.folder.glob("*.pt")) == ["checkpoint.previous.pt", "checkpoint.pt"]
    broken.fit()
    assert broken.metrics == whole.metrics


def test_a_checkpoint_is_plain_tensors_and_numbers(tiny):
    one = tiny("kd", epochs=1, ema=0.9)
    one.fit()
    state = torch.load(one.folder / "checkpoint.pt", weights_only=True)
    assert (state["epoch"], state["step"], len(state["metrics"])) == (1, 0, 1)


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    checkpoints.save(tmp_path / "checkpoint.pt", checkpoints.Checkpoint({}, {}, version=99))
    with pytest.raises(AttarError, match="another version of attar"):
        checkpoints.restore(tmp_path / "checkpoint.pt")


def test_a_finished_training_is_not_trained_again(tiny):
    one = tiny("kd", ema=0.9)
    one.fit()
    first = {key: tensor.clone() for key, tensor in one.state.items()}
    one.fit(((0, 0), "crash"))
    assert all(torch.equal(tensor, first[key]) for key, tensor in one.state.items())


def test_handlers_of_the_caller_come_back(tiny):
    before = signal.getsignal(signal.SIGTERM)
    tiny("kd").stopped_fit(0, 1)
    assert signal.getsignal(signal.SIGTERM) is before
