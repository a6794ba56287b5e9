"""What the process with the second device is asked to do; numbers come back, never its tensors."""

from __future__ import annotations

import importlib
import multiprocessing
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import attar
from attar.accel.runtime import Runtime
from attar.batch import Address, Batch
from attar.data import Augment, DeviceLoader, ImageSet
from attar.data.loading import device_loader
from attar.data.transforms.mixing import Mixing
from attar.data.transforms.rand_augment import draw_changes, rand_augment
from attar.distributed.team import Team
from attar.errors import AttarError
from attar.methods import Method, create_method, method_info
from attar.metrics import base
from attar.models import create_model
from attar.safety.nonfinite import Watch, gradient_norm, moved_by
from attar.tasks import Classification
from attar.teachers import cache as teacher_cache
from attar.teachers.cache import TeacherCache
from attar.teachers.logit_codec import Dense, TopK
from attar.train.checkpoint import Checkpoint
from attar.train.loop import update
from attar.train.running_means import RunningMeans

CLASSES, SIZE, STEPS = 6, 16, 3
LABELS = torch.tensor([4, 0, 3, 3, 1, 5, 2, 0])
# Networks this small and a job this short run in seconds; the student alone is not what is looked at.
JOB: dict[str, Any] = {
    "data": {"name": "digits", "train_size": 80, "val_fraction": 0.0, "test_fraction": 0.05},
    "teacher": {"name": "resnet8", "epochs": 1, "train_size": 80, "precision": "float32"},
    "student": "resnet8",
    "epochs": 2,
    "batch_size": 20,
    "precision": "float32",
    "alone": "skip",
    "jobs": 1,
}


def begin() -> None:
    """Make the device known to this process."""
    import apart  # noqa: F401

    torch.set_num_threads(1)
    cost = importlib.import_module("attar.profiling.cost")  # the package has a function of that name
    cost.REPEATS, cost.WARMUP = 2, 0
    # A process that was spawned spawns others, and each would import torch.
    multiprocessing.set_start_method(None, force=True)


def refuses_the_cpus() -> list[str]:
    """What it says to tensors of the CPU beside its own, and what it notes of programs that wait for it."""
    import apart

    here, there = torch.randn(2, 3), torch.randn(2, 3).to("apart")
    printed = []
    for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there > 0]):
        try:
            mixed()
        except RuntimeError as error:
            printed.append(str(error))
    apart.WAITS.clear()
    there.sum().item()
    there[there > 0]
    there.cpu()
    torch.tensor(1.0, device="apart")
    return printed + apart.WAITS


def changes_colours(layout: torch.memory_format) -> tuple[bool, list[str]]:
    """Whether RandAugment gives the CPU's bytes, and what it waits for."""
    import apart

    images = _noise(16).contiguous(memory_format=layout)
    changes, signs = draw_changes(len(images), 3, torch.Generator().manual_seed(0))
    there = images.to("apart")
    apart.WAITS.clear()
    found = rand_augment(there, changes, signs, 9)
    waits = list(apart.WAITS)
    return torch.equal(found.cpu(), rand_augment(images, changes, signs, 9)), waits


def loads_alike(steps_at_once: int, start: int) -> bool:
    """Whether a loader there gives the CPU's batches, also from the middle of an epoch."""
    names = tuple(map(str, range(CLASSES)))
    images = ImageSet(_noise(43), torch.arange(43) % CLASSES, names, "noise", (0.5,) * 3, (0.25,) * 3)
    augment = Augment(crop_padding=2, flip=True, cutout=4, rand_augment=2)
    keys: dict[str, Any] = {"channels_last": True, "mixing": Mixing(0.4, 1.0), "views": {"strong": augment}}
    here, there = (DeviceLoader(images, 8, augment, device=device, **keys) for device in ("cpu", "apart"))
    with patch.object(device_loader, "VARIED_AT_ONCE", steps_at_once * 2 * 4 * images.images[:8].numel()):
        assert there._steps_at_once() == steps_at_once
        pairs = zip(here.epoch(1, start), there.epoch(1, start), strict=True)
        return all(
            torch.equal(one, other.cpu())
            for mine, theirs in pairs
            for one, other in zip(_tensors(mine), _tensors(theirs), strict=True)
        )


def _noise(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def _tensors(batch: Batch) -> list[torch.Tensor]:
    assert batch.index is not None
    return [batch.inputs, batch.view("strong"), batch.labels, batch.index]


def cached_logits(folder: Path, most_on_device: int, top: int | None) -> tuple[str, list[list[float]]]:
    """Where the rows of a cache lie, and what comes back from its file."""
    codec = TopK(CLASSES, top) if top else Dense(CLASSES)
    with patch.object(teacher_cache, "MOST_ON_DEVICE", most_on_device):
        cache = TeacherCache(folder, {}, images=3, codec=codec, device=torch.device("apart"))
    logits, writer = torch.arange(3.0 * CLASSES).view(3, CLASSES).to("apart"), cache.writer(0)
    for numbers in ([2, 0], [1]):
        index = torch.tensor(numbers).to("apart")
        writer.write(index, codec.encode(logits[index]))
    writer.commit()
    rows = cache.read(0)
    assert rows is not None
    back = cache.decode(rows, torch.arange(3).to("apart"))
    assert back.device.type == "apart"
    return rows.device.type, back.tolist()


def _method(name: str) -> Method:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [create_model(net, num_classes=CLASSES, image_size=SIZE) for net in ("resnet14", "resnet8")]
        made = create_method(name, teacher=nets[0] if method_info(name).takes_teacher else None, student=nets[1])
        made.setup(LABELS)
        return made


def steps_of(name: str, device: str, precision: str) -> tuple[list[float], list[str]]:
    """The losses of a few steps of a method, phase by phase as the training loop does it, and the last step's waits."""
    import apart

    method, runtime = _method(name).to(device).train(), Runtime(torch.device(device), precision, "")
    learners = {
        phase: torch.optim.SGD(method.trainable(phase), 0.05, momentum=0.9, fused=True) for phase in method.phases
    }
    watch, running, losses = Watch(runtime.device), RunningMeans(Classification()), []
    for learner in learners.values():
        watch.guard(learner)
    for step in range(STEPS):
        images = torch.randn(len(LABELS), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(step))
        index = torch.arange(len(LABELS))
        address = Address(step=step)
        views = {"strong": images.flip(3).to(device)}
        batch = Batch(images.to(device), LABELS.to(device), index.to(device), address, epochs=2, views=views)
        apart.WAITS.clear()
        for phase, learner in learners.items():
            with runtime.computing():
                found = method.batch_losses(replace(batch, phase=phase))
            watch.saw(found.total, step, phase)
            found.total.backward()
            running.add(found, batch, first_phase=phase == method.phases[0])
            norm = gradient_norm(learner)
            watch.saw(norm, step, phase)
            torch.nn.utils.clip_grads_with_norm_(moved_by(learner), 1.0, norm)
            update(learner, 0.05)
            losses.append(found.total.detach())
    waits = list(apart.WAITS)
    return [float(loss) for loss in losses], waits


def watches_where_nothing_has_a_gradient() -> bool:
    """The norm of no gradients at all lies on the CPU."""
    watch, parameter = Watch(torch.device("apart"), every=1), torch.nn.Parameter(torch.ones(1).to("apart"))
    watch.saw(gradient_norm(torch.optim.SGD([parameter])), 0)
    return watch.bad() is None


def job(device: str, folder: Path, **keys: Any) -> tuple[str, bytes]:
    """What a whole job recorded, and its student."""
    sections = {key: {**JOB[key], **keys.pop(key)} for key in ("data", "teacher") if key in keys}
    attar.distill(**{**JOB, **keys, **sections}, device=device, out=str(folder))
    return ended(folder)


def job_without_float64(folder: Path, **keys: Any) -> tuple[str, bytes]:
    """The same where no tensor may be float64, as on Apple's devices."""
    import apart

    with patch.object(apart, "NARROW", True), patch.object(base, "WITHOUT_FLOAT64", {"apart"}):
        return job("apart", folder, **keys)


def ended(folder: Path) -> tuple[str, bytes]:
    return (folder / "metrics.jsonl").read_text(), (folder / "student.safetensors").read_bytes()


def waits_of_steps(folder: Path, caches: Path | None = None, top: int | None = None, **keys: Any) -> dict[str, int]:
    """What an epoch of 14 steps waits for more often than one of 10, which the guards look at as often.

    Either may have a cache of its own, with so many of the largest logits.
    """
    import apart

    found, weights = [], folder / "teacher.pth"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # one teacher for all caches
        torch.save(create_model("resnet8", num_classes=10, in_channels=1, image_size=8).state_dict(), weights)
    for batch_size in (8, 6):
        keys["teacher"] = {"weights": str(weights)}
        if caches:
            keys["teacher"] |= {"cache": str(caches / str(batch_size)), "cache_top": top}
        apart.WAITS.clear()
        job("apart", folder / str(batch_size), **keys, batch_size=batch_size, epochs=1)
        found.append(Counter(wait for wait in apart.WAITS if "train/loop.py" in wait and "measure/" not in wait))
    return dict(found[1] - found[0])


def resumes_exactly(folder: Path, epoch: int, step: int, **keys: Any) -> bool:
    """Whether a job that was stopped before a step of its student and taken up again ends as one that was not."""
    from attar.train import loop

    whole = job("apart", folder / "whole", **keys)
    keep = loop.write

    def stop(state: Checkpoint, places: loop.Places, members: Team) -> None:
        keep(state, places, members)
        if places.folder == folder / "broken" and (state.epoch, state.step) == (epoch, step):
            raise AttarError("stopped")

    try:
        with patch.object(loop, "write", stop):
            job("apart", folder / "broken", **keys, checkpoint_minutes=1e-9)
    except AttarError:
        pass
    else:
        return False  # it was not stopped
    attar.resume(folder / "broken")
    return whole == ended(folder / "broken")
