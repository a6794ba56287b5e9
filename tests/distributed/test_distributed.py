"""Several processes do what one does: every method, every step, on the CPU through gloo."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from attar.accel.runtime import Runtime
from attar.data import DeviceLoader, load_data
from attar.data.loading.device_loader import Part, part_of
from attar.distributed.preflight import differs
from attar.distributed.synchronised import Gathered, _gathered, batch_norm
from attar.distributed.team import Team, objective, surviving, team
from attar.errors import AttarError, Stopped
from attar.knowledge import Transfer
from attar.losses import CrossEntropy
from attar.methods import create_method, method_info
from attar.methods.base import Offline
from attar.models import create_model
from attar.recipe import read_recipe
from attar.train.loop import Places, fit
from attar.train.optim import optimiser
from attar.train.progress import Progress
from sweeps import ONE_OF_EACH_KIND, installed_methods

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo to join processes"
    ),
]
# Fewer branches, to be quick.
OPTIONS = {"rsd": {"duplicates": 1}, "uakd": {"replicas": 1}}
CASES = [
    *((name, OPTIONS.get(name, {})) for name in ONE_OF_EACH_KIND),
    ("kd+at+rkd", {}),
    ("sokd", {"feature_loss": "pkt", "teacher_bn": "train"}),
]
OTHERS = [(name, OPTIONS.get(name, {})) for name in installed_methods() if name not in ONE_OF_EACH_KIND]


class Spread(nn.Module):
    """A loss between samples, of somebody who wrote it himself."""

    def __init__(self, whole_batch):
        super().__init__()
        self.whole_batch = whole_batch

    def forward(self, learner, source):
        return (learner.var(0) - source.var(0)).square().mean()


class Spreading(Offline):
    name = "spreading"

    def __init__(self, *nets, whole_batch):
        super().__init__(*nets)
        self.loss = Spread(whole_batch)

    def transfers(self):
        yield Transfer("labels", "student.logits", CrossEntropy())
        yield Transfer("teacher.logits", "student.logits", self.loss)


class Double(DeviceLoader):
    """Batches in float64, and perhaps a signal to this process before a step."""

    alarm = None

    def epoch(self, epoch, start_step=0):
        for batch in super().epoch(epoch, start_step):
            if self.alarm == (epoch, batch.address.step):
                signal.raise_signal(signal.SIGTERM)
            views = {name: view.double() for name, view in batch.views.items()}
            yield replace(batch, inputs=batch.inputs.double(), views=views)


def net(name):
    return create_model(name, num_classes=10, in_channels=1, image_size=8)


def method_of(name, options):
    torch.manual_seed(0)
    if name == "spreading":
        return Spreading(net("resnet14"), net("resnet8"), **options).double()
    teacher = net("resnet14") if method_info(name.partition("+")[0]).takes_teacher else None
    method = create_method(name, teacher=teacher, student=net("resnet8"), image_shape=(1, 8, 8), **options)
    method.setup(loader_of().images.labels)
    return method.double()


def loader_of(share=(0, 1), batch_size=21, train_size=30, views=None):
    """Steps of 21 and 9 images: slices of different sizes."""
    splits = load_data("digits", val_fraction=0.05, train_size=train_size)
    views = {name: splits.augment.changed(changes) for name, changes in (views or {}).items()}
    return Double(splits.train, batch_size, augment=splits.augment, seed=0, epochs=2, share=share, views=views)


def trained(method, loader, losses_of):
    """The state after an epoch of SGD with momentum."""
    method.train()
    learners = {
        phase: optimiser(method.trainable(phase), read_recipe(optim={"lr": 0.05}).optim) for phase in method.phases
    }
    for batch in loader.epoch(0):
        for phase, learner in learners.items():
            losses_of(replace(batch, phase=phase)).total.backward()
            learner.step()
            learner.zero_grad()
    return method.state_dict()


def deviation(name, options, members):
    """The largest difference of any number of the state between all processes and this one alone, and the warning."""
    method = method_of(name, options)
    views = method.views()
    warning = differs(method, loader_of(members.share, views=views), members)
    together = trained(method, loader_of(members.share, views=views), objective(method, members))
    if not members.leader:
        return 0.0, warning
    method = method_of(name, options)
    alone = trained(method, loader_of(views=views), method.batch_losses)
    return max(float((together[key].double() - alone[key].double()).abs().max()) for key in alone), warning


def fitted(folder, share=(0, 1), alarm=None, **optim):
    """A whole training with everything at once, in float64; it goes on where the folder has a checkpoint."""
    recipe = read_recipe(
        epochs=2, batch_size=12, optim={"lr": 0.05, "accumulate": 2, "clip_norm": 1, "ema": 0.8, **optim}
    )
    method, loader, printed = method_of("kd", {}), loader_of(share, 12, 50), io.StringIO()
    loader.alarm = alarm
    folder.mkdir(exist_ok=True)
    console = Console(file=printed, width=200)
    stopped = failed = None
    try:
        with Progress(console, "kd", 2, len(loader), 12) as progress:
            runtime, places = Runtime(torch.device("cpu"), "float32", ""), Places(folder)
            fit(method, loader, None, recipe, runtime, places, progress)
    except Stopped as error:
        stopped = str(error)
    except AttarError as error:
        failed = str(error)
    return {"state": method.state_dict(), "printed": printed.getvalue(), "stopped": stopped, "failed": failed}


def normed(rows, share):
    """Batch norm of some rows, and all its gradients, with one process's part or all of them."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 4, 3, 3, generator=generator, dtype=torch.float64) + 10
    wanted = torch.randn(rows, 4, 3, 3, generator=generator, dtype=torch.float64)
    part = part_of(rows, *share)
    x, wanted = x[part].requires_grad_(), wanted[part]
    weight = torch.arange(1.0, 5.0, dtype=torch.float64).requires_grad_()
    bias, mean, var = torch.zeros_like(weight).requires_grad_(), torch.zeros(4).double(), torch.ones(4).double()
    norm = F.batch_norm if share == (0, 1) else batch_norm
    (norm(x, mean, var, weight, bias, training=True, momentum=0.3) * wanted).sum().backward()
    return {"x": x.grad, "weight": weight.grad, "bias": bias.grad, "mean": mean, "var": var}


def differing(members, method):
    with torch.no_grad():
        next(method.parameters()).add_(1e-9 * members.rank)
    try:
        members.check_same(method)
    except AttarError as error:
        return str(error)
    return None


def gathered(members):
    rows = torch.arange(5.0)[part_of(5, *members.share)].requires_grad_()
    whole = Gathered.apply(rows, [part.stop - part.start for part in (part_of(5, n, members.size) for n in (0, 1))])
    (whole * torch.arange(5.0) * (1 + members.rank)).sum().backward()
    return whole.tolist(), rows.grad.tolist()


def two(folder, members):
    """Everything that two processes are asked."""
    warned = [("spreading", {"whole_batch": whole}) for whole in (True, False)]
    return {
        "deviations": [deviation(name, options, members) for name, options in CASES + warned],
        "any": members.any(members.rank == 1, False),
        "leader": members.from_leader(lambda: f"from {members.rank}"),
        "sums": members.summed({"b": torch.tensor(1.0 + members.rank), "a": torch.full((2, 1), 10.0)}),
        "norms": [normed(rows, members.share) for rows in (3, 8)],
        "gathered": gathered(members),
        "flags": _gathered(torch.tensor([[True, False], [False, True]][members.rank :]), [2, 1]).tolist(),
        "same": [differing(Team(), method_of("kd", {})), differing(members, method_of("kd", {}))],
        "whole": fitted(folder / "whole", members.share),
        "stopped": fitted(folder / "stopped", members.share, (1, 1) if members.rank == 1 else None),
        "resumed": fitted(folder / "stopped", members.share),
        "half": fitted(folder / "half", members.share, (1, 1) if members.rank == 1 else None),
    }


def others(folder, members):
    return {"deviations": [deviation(name, options, members) for name, options in OTHERS]}


def four(folder, members):
    return {"deviations": [deviation("rkd", {}, members)]}


def work(rank, size, task, folder):
    torch.set_num_threads(1)
    limit = timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size, timeout=limit)
    torch.save(task(folder, team()), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def asked(task, size, folder):
    # One process imports everything, the others are its copies.
    processes.get_context("forkserver").set_forkserver_preload(["attar.train.loop", "attar.data.sources.digits"])
    processes.start_processes(work, (size, task, folder), nprocs=size, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(size)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder, and the answers of two processes."""
    folder = tmp_path_factory.mktemp("two")
    return folder, asked(two, 2, folder)


def holds(deviations):
    assert all(far < 1e-8 and warning is None for far, warning in deviations), deviations


def test_methods_are_in_two_processes_what_they_are_in_one(pair):
    deviations = pair[1][0]["deviations"][: len(CASES)]
    assert len(deviations) == 7
    holds(deviations)


@pytest.mark.slow
def test_every_other_method_is_in_two_processes_what_it_is_in_one(tmp_path):
    deviations = asked(others, 2, tmp_path)[0]["deviations"]
    assert len(deviations) == len(OTHERS) > 8
    found = {name: one for (name, _), one in zip(OTHERS, deviations, strict=True)}
    assert not {name: one for name, one in found.items() if one[0] > 1e-8 or one[1] is not None}


def test_a_loss_between_samples_must_say_so_or_is_found_out(pair):
    (far, warning), (other, found) = pair[1][0]["deviations"][-2:]
    assert (far < 1e-8, warning) == (True, None)
    assert other > 1e-4
    assert "'spreading' is not what it is in one" in found


@pytest.mark.slow
def test_four_processes_are_one_too(tmp_path):
    holds(asked(four, 4, tmp_path)[0]["deviations"])


def test_batch_norm_of_slices_is_batch_norm_of_the_batch(pair):
    for place, rows in enumerate((3, 8)):
        one, other = (result["norms"][place] for result in pair[1])
        alone = normed(rows, (0, 1))
        torch.testing.assert_close(torch.cat([one["x"], other["x"]]), alone["x"])
        for key in ("weight", "bias"):
            torch.testing.assert_close(one[key] + other[key], alone[key])
        for key in ("mean", "var"):
            torch.testing.assert_close(one[key], alone[key])
            assert torch.equal(one[key], other[key])


def test_gathered_rows_get_the_gradients_of_all(pair):
    (whole, first), (_, second) = (result["gathered"] for result in pair[1])
    assert whole == [0, 1, 2, 3, 4]
    assert first + second == [0, 3, 6, 9, 12]
    assert all(result["flags"] == [[True, False], [False, True], [False, True]] for result in pair[1])


def test_what_the_processes_agree_on(pair):
    for result in pair[1]:
        assert result["any"] == [True, False]
        assert result["leader"] == "from 0"
        assert {key: total.tolist() for key, total in result["sums"].items()} == {"a": [[20], [20]], "b": 3}
        assert result["same"][0] is None
        assert "no longer have the same weights" in result["same"][1]


def close(one, other):
    return max(float((one[key].double() - other[key].double()).abs().max()) for key in other) < 1e-9


def test_a_training_is_the_one_of_one_process(pair, tmp_path):
    folder, results = pair
    alone = fitted(tmp_path / "alone")
    assert all(close(result["whole"]["state"], alone["state"]) for result in results)
    here, there = (
        [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        for place in (tmp_path / "alone", folder / "whole")
    )
    assert [record["train_top1"] for record in there] == [record["train_top1"] for record in here]
    assert [record["loss"] for record in there] == pytest.approx([record["loss"] for record in here], rel=1e-6)
    assert {file.name for file in (folder / "whole").iterdir()} == {
        file.name for file in (tmp_path / "alone").iterdir()
    }


def test_a_signal_to_one_stops_all_after_the_same_step_and_any_number_resumes(pair, tmp_path):
    folder, results = pair
    assert all(result["stopped"]["stopped"] == str(folder / "stopped") for result in results)
    assert "going on at epoch 2, step 2" in results[0]["resumed"]["printed"]
    alone = fitted(tmp_path / "alone")
    assert close(results[0]["resumed"]["state"], alone["state"])
    # Two began, one goes on.
    rest = fitted(folder / "half")
    assert "going on at epoch 2, step 2" in rest["printed"]
    assert close(rest["state"], alone["state"])
    losses = [(place / "metrics.jsonl").read_text().splitlines()[1] for place in (tmp_path / "alone", folder / "half")]
    here, there = (json.loads(line)["loss"] for line in losses)
    assert there == pytest.approx(here, rel=1e-6)


def test_shares_are_the_batch_cut_in_order():
    loader = loader_of()
    shares = zip(loader.epoch(1, 1), *(loader_of((number, 3)).epoch(1, 1) for number in range(3)), strict=True)
    for whole, *parts in shares:
        assert all(isinstance(part, Part) and part.whole == len(whole) for part in parts)
        assert [part.start for part in parts] == [0, len(parts[0]), len(parts[0]) + len(parts[1])]
        for key in ("inputs", "labels", "index"):
            assert torch.equal(torch.cat([getattr(part, key) for part in parts]), getattr(whole, key))
        assert all(part.address == whole.address for part in parts)
    assert torch.equal(next(loader_of((1, 3)).whole().epoch(0)).index, next(loader.epoch(0)).index)


def test_a_batch_too_small_to_share_is_refused():
    with pytest.raises(AttarError, match="a batch of 2 images cannot be shared by 3 processes"):
        loader_of((0, 3), 16, 50)


def test_one_process_pays_nothing(monkeypatch):
    monkeypatch.setattr(dist, "all_reduce", None)
    monkeypatch.setattr(dist, "broadcast_object_list", None)
    alone, method = Team(), method_of("kd", {})
    assert objective(method, alone) == method.batch_losses
    assert differs(method, loader_of(), alone) is None
    sums = {"loss": torch.ones(())}
    assert alone.summed(sums) is sums
    assert alone.any(True, False) == [True, False]
    assert alone.from_leader(list) == []


def test_a_mistake_of_torch_is_not_taken_for_a_lost_process():
    with pytest.raises(RuntimeError, match="must match"), surviving():
        torch.zeros(2) + torch.zeros(3)


def torchrun(*arguments, **settings):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", *settings.pop("own", ())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "-m", "attar", *arguments], env=environment, **pipes, **settings)


def test_a_mistake_is_reported_once_and_last():
    run = torchrun("distill", "method=skod")
    printed, error = run.communicate(timeout=120)
    assert (run.returncode, printed) == (1, "")
    assert error.count("attar: unknown method 'skod'; did you mean 'skd'?") == 1
    assert error.splitlines()[-2].endswith("unknown method 'skod'; did you mean 'skd'?")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the processes of torchrun are found in /proc")
def test_a_killed_process_ends_the_others_and_a_restart_goes_on(tmp_path):
    recipe = ["train", "student=resnet8", "data.train_size=64", "batch_size=16", "epochs=4", "precision=float32"]
    run = torchrun(*recipe, own=["--max-restarts=1"], cwd=tmp_path)
    folder = tmp_path / "runs" / "supervised-resnet8-digits"
    records = folder / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while not records.exists():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    printed, error = run.communicate(timeout=120)
    assert run.returncode == 0, error
    assert "going on at epoch" in printed
    assert printed.count("Report:") == 1
    assert [file.name for file in (tmp_path / "runs").iterdir()] == [folder.name]
    assert len(records.read_text().splitlines()) == 4
