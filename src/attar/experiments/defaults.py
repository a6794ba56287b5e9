"""Training settings that nobody gave, from the optimiser, the student and the size of the data, with the reason."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import nn

from attar.accel.runtime import find_device
from attar.data import FileSet, ImageSet, Samples
from attar.profiling import held_memory
from attar.recipe import Recipe

# With these given nothing is chosen.
CHOSEN = {"epochs", "batch_size", "optim.lr"}
# A training has about so many steps or more, in at least and at most so many epochs.
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 1500, 10, 60
# An epoch has so many steps or more, as far as batches of that many samples allow.
STEPS_AN_EPOCH, SMALLEST_BATCH = 20, 8
# On a CPU the activations of a batch take this many bytes at most, so that a run stays under 3 GB.
MOST_HELD = 2 * 10**9
# Networks with published or trained weights move this much less.
PRETRAINED = 0.1
# Of networks of layer norms, transformers above all: those of DeiT and Swin, their lr 1e-3 at batch 1024 and longer
# schedules halved for the batches here.
ATTENTION: dict[str, Any] = {
    "name": "adamw", "lr": 5e-4, "weight_decay": 0.05, "decay_vectors": False, "schedule": "cosine", "clip_norm": 1.0,
}  # fmt: skip
# The warm-up of those, as a part of the training.
WARMUP = 0.1


def with_defaults(recipe: Recipe, given: Collection[str], train: Samples, student: nn.Module) -> tuple[Recipe, str]:
    """The recipe with the settings that were not given, and a line that names them; "" where all are as they were.

    - Few samples get smaller batches, so that an epoch has 20 steps, and the learning rate goes with the batch; and
      more epochs, so that a training has about 1,500 steps.
    - On a CPU a batch of images takes 2 GB of activations at most.
    - A network of layer norms gets AdamW with warm-up, cosine and no decay of norms and biases.
    - A student that begins with weights gets a tenth of the learning rate.

    Args:
        recipe: as it was read, its defaults spelled out.
        given: the dotted keys that somebody gave; they stay as they are.
        train: the samples to train on.
        student: the network as it starts.
    """
    optim, samples, reasons, chosen = recipe.optim, len(train), [], {}
    if not {"optim.name", "optim.lr"} & set(given) and layer_normed(student):
        kept = {key: value for key, value in ATTENTION.items() if f"optim.{key}" not in given}
        optim, chosen = replace(optim, **kept), kept
        reasons.append("a network of layer norms")
    batch = recipe.batch_size if "batch_size" in given else fitting_batch(samples, recipe.batch_size)
    scale = 1.0
    if batch != recipe.batch_size:
        reasons.append(f"{samples:,} samples to train on")
    if "batch_size" not in given and batch > SMALLEST_BATCH and find_device(recipe.device).type == "cpu":
        held = _held(student, train)
        if batch * held > MOST_HELD:
            batch = max(SMALLEST_BATCH, power_of_two(MOST_HELD / held))
            reasons.append(f"{held / 1e6:.2g} MB of activations a sample")
    scale *= batch / recipe.batch_size
    if recipe.student.weights or recipe.student.name.startswith("hf/"):
        scale *= PRETRAINED
        reasons.append("a student with weights")
    if scale != 1.0 and "optim.lr" not in given:
        optim = replace(optim, lr=float(f"{optim.lr * scale:.2g}"))
        chosen |= {"lr": optim.lr}
    epochs = recipe.epochs
    if "epochs" not in given:
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(STEPS / max(1, samples // batch))))
    if "name" in chosen and "optim.warmup" not in given:
        optim, chosen = replace(optim, warmup=WARMUP * epochs), {**chosen, "warmup": WARMUP * epochs}
    parts = [_shown(key, value) for key, value in chosen.items()]
    parts += [f"batch {batch}"] * (batch != recipe.batch_size) + [f"{epochs} epochs"] * (epochs != recipe.epochs)
    if epochs != recipe.epochs and not any("samples" in reason for reason in reasons):
        reasons.append(f"{samples:,} samples to train on")
    line = f"chosen: {', '.join(parts)}, for {' and '.join(reasons)}" if parts else ""
    return replace(recipe, optim=optim, batch_size=batch, epochs=epochs), line


def fitting_batch(samples: int, most: int) -> int:
    """The largest power of two with 20 steps an epoch, from 8 to `most`.

    >>> fitting_batch(50_000, 128), fitting_batch(700, 128), fitting_batch(20, 128)
    (128, 32, 8)
    """
    wanted = samples / STEPS_AN_EPOCH
    return most if wanted >= most else min(max(SMALLEST_BATCH, power_of_two(wanted)), most)


def power_of_two(most: float) -> int:
    """The largest one that is not above `most`, 1 at least.

    >>> power_of_two(31.7), power_of_two(0.1)
    (16, 1)
    """
    return 2 ** int(math.log2(max(1.0, most)))


def _held(student: nn.Module, train: Samples) -> int:
    """Bytes of activations a sample; 0 where samples are no images or the network does not run."""
    if not isinstance(train, ImageSet | FileSet):
        return 0
    try:
        return held_memory(student, train.example)
    except Exception:  # what it trips over is named when a batch is tried
        return 0


def layer_normed(net: nn.Module) -> bool:
    """Whether a network normalises layers rather than batches, as transformers and ConvNeXt do."""
    modules = list(net.modules())
    layers = sum(isinstance(module, nn.LayerNorm) for module in modules)
    return layers > sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)


def _shown(key: str, value: Any) -> str:
    """A setting as the line has it."""
    names = {"name": "", "weight_decay": "weight decay ", "clip_norm": "gradient norm at most ", "schedule": ""}
    if key == "decay_vectors":
        return "no decay of norms and biases"
    if key == "warmup":
        return f"{value:g} epochs of warm-up"
    name = names.get(key, f"{key} ")
    return f"{name}{value:g}" if isinstance(value, float) else f"{name}{value}"
