"""The keys of a recipe: dataclasses whose attribute docstrings are the help."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from attar.choices import OPTIMISERS, SCHEDULES
from attar.registry import Registry


@dataclass
class ModelRecipe:
    """A network."""

    name: str = ""
    """A network of the zoo (`attar list networks`), of a library (timm/NAME, torchvision/NAME, efficientnet_lite0 to 2,
    pyg/NAME, hf-config/MODEL), with its weights (hf/FOLDER, onnx/FILE), or a finished run's folder."""
    weights: str | None = None
    """A .safetensors or .pth file; pretrained: what the network's library publishes; for a student also teacher: copy
    layers from the teacher (transformers)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the network's constructor."""
    classes: Any = None
    """Which classes of the weights to keep, in the order of the data's: their numbers, or imagenet: found by name."""


@dataclass
class TeacherRecipe(ModelRecipe):
    """The network to learn from."""

    epochs: int | None = None
    """How long to train the teacher first when it has no weights; None: as long as the student."""
    train_size: int | None = None
    """Training images for training the teacher; None: as many as the student's."""
    precision: str = "auto"
    """Its precision in distillation: float32, bfloat16, int8, or auto: the fastest that agrees with float32."""
    cache: str | None = None
    """A folder that keeps its logits for later seeds, methods and runs; None: it computes every time."""
    cache_top: int | None = None
    """Keep only so many of the largest logits of each image; None: all."""


@dataclass
class TaskRecipe:
    """What is learnt."""

    name: str = ""
    """A task (`attar list tasks`); empty: what the data are for, classification for images."""
    options: dict[str, Any] = field(default_factory=dict)
    """The task's own settings, also written task.divergence=reverse."""


@dataclass
class DataRecipe:
    """The data."""

    name: str = "digits"
    """digits, cifar10, cifar100, folder, manifest (a CSV or Parquet file of paths and labels), hf (a local folder of
    Hugging Face datasets) or webdataset (tar shards); of other tasks text (a UTF-8 file), sentences
    (tables of labelled sentences), cells (images with dots), graph (a .npz graph), sionna (simulated channels),
    channels (a .npz of them), label_table (several labels an image) and digit_mosaics; see docs/tasks."""
    root: str | None = None
    """The folder or file that holds the data; None: where downloads are kept."""
    val_fraction: float = 0.05
    """The part of the training set kept apart for validation, the same share of every class."""
    train_size: int | None = None
    """Train on only so many images, the same share of every class; None: all."""
    split_seed: int | None = None
    """Seed that chooses the validation images and those of train_size; None: the run's."""
    view_seed: int | None = None
    """Seed of the crops and flips; None: the run's. Seeds with the same one and the same split_seed share a cache."""
    unlabelled: str | None = None
    """A folder of images without labels, of any layout, that join the training batches; see docs/data.md."""
    unlabelled_batch: int | None = None
    """How many of them a batch gets beside its batch_size labelled ones; None: as many, or all where they are fewer."""
    mixup: float = 0.0
    """Mix each image and its label with another's, its share from Beta(alpha, alpha) with this alpha; 0: no mixup."""
    cutmix: float = 0.0
    """Paste a rectangle of another image into each, likewise; 0: no CutMix. With both, each image draws which."""
    repeats: int = 1
    """Show each image so many times in an epoch, varied differently, and only that part of them (repeated augmentation,
    arXiv:1901.09335); an epoch keeps its number of steps."""
    augment: dict[str, Any] = field(default_factory=dict)
    """Changes to the data set's own augmentation (crop_padding, padding_mode, flip, cutout, resized_crop, scale, ratio,
    rand_augment, magnitude, or another of `attar list augmentations`)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the data set (image_size, mean, std, class_weights; for files resize_size, in_memory,
    workers, ...)."""


@dataclass
class MethodRecipe:
    """The distillation method."""

    name: str = "kd"
    """A method (`attar methods`), or several joined by + ("kd+at")."""
    options: dict[str, Any] = field(default_factory=dict)
    """The method's own settings (`attar methods NAME`), also written method.temperature=4; and of every method weights,
    logit_edges, layer_schedule and teachers, see docs/edge-options.md."""


@dataclass
class OptimRecipe:
    """How the networks learn."""

    name: str = "sgd"
    """sgd, adamw, dot, deepkd, or another of `attar list optimisers`."""
    lr: float = 0.2
    """The highest learning rate; the default is the optimiser's own (sgd 0.2, adamw 0.001)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    delta: float = 0.075
    """How far the momenta of dot and deepkd stand from it (0.075 on CIFAR-100, 0.09 on ImageNet)."""
    nesterov: bool = True
    """Nesterov's momentum; the literature's CIFAR recipes go without."""
    weight_decay: float = 5e-4
    """L2 penalty (SGD) or decoupled decay (AdamW) on every parameter; the optimiser's own default (adamw 0.01)."""
    decay_vectors: bool = True
    """Whether the decay reaches norms and biases; false: only weights of two dimensions or more."""
    schedule: str = "onecycle"
    """onecycle, cosine, linear, rex, multistep, constant, or another of `attar list schedules`."""
    milestones: list[float] = field(default_factory=lambda: [0.625, 0.75, 0.875])
    """Where multistep drops the rate, as parts of the training (150, 180 and 210 of 240 epochs)."""
    gamma: float = 0.1
    """The factor of each multistep drop."""
    min_lr: float = 0.0
    """The learning rate that cosine, linear, rex and onecycle end at, in place of (nearly) 0."""
    layer_decay: float | None = None
    """The learning rate of each block as a multiple of the next one's, counted from the classifier (0.65 to 0.9, for
    transformers with published weights); None: all blocks learn alike."""
    range_test: bool = False
    """Find the learning rate before the training, by raising it step by step; also written optim.lr=auto."""
    warmup: float = 0.0
    """Epochs of linear warm-up before any schedule but onecycle; linear and rex fall from its end."""
    label_smoothing: float = 0.0
    """Smoothing of the labels in every edge from them."""
    clip_norm: float | None = None
    """Clip the gradient's norm to this."""
    accumulate: int = 1
    """Batches per optimiser step."""
    ema: float | None = None
    """Decay of an average of the weights that is evaluated and deployed in place of the last (for example 0.999)."""


@dataclass
class Recipe:
    """A whole run."""

    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    """The network to learn from, also written teacher=NAME."""
    student: ModelRecipe = field(default_factory=ModelRecipe)
    """The network to train, also written student=NAME."""
    chain: list[str] = field(default_factory=list)
    """Networks, each distilled from the one before it, in place of teacher and student; see docs/chains.md."""
    chain_from: str = "last"
    """last: each network learns from the one before it; all: from all before it (DGKD)."""
    data: DataRecipe = field(default_factory=DataRecipe)
    """The data, also written data=NAME."""
    task: TaskRecipe = field(default_factory=TaskRecipe)
    """What is learnt, also written task=NAME."""
    method: MethodRecipe = field(default_factory=MethodRecipe)
    """The distillation method, also written method=NAME."""
    optim: OptimRecipe = field(default_factory=OptimRecipe)
    """How the networks learn."""
    epochs: int = 10
    """Passes over the training set; where they are not given, more for few samples."""
    batch_size: int = 128
    """Samples per step; where they are not given, fewer for few samples."""
    seed: int = 0
    """Where all randomness starts."""
    seeds: int = 1
    """How many seeds to run, from `seed` upwards; the table then gives means and intervals."""
    alone: str = "train"
    """The student trained alone, for comparison: train, skip, or the folder of an earlier run on the same test set."""
    patience: int | None = None
    """Stop a training after so many epochs without a better validation measure; best with select=best. None: never."""
    select: str = "last"
    """Which weights are deployed: last, or best on the validation set."""
    precision: str = "auto"
    """float32, bfloat16, or auto: bfloat16 where its step is clearly faster, found by trying."""
    compile: bool | None = None
    """torch.compile of each step, where results agree; None: tried in a long run, kept where clearly faster."""
    device: str = "auto"
    """cpu, cuda, xpu (Intel), mps (Apple), or auto: the accelerator that torch finds, else cpu."""
    jobs: int | None = None
    """How many trainings go at a time (seeds; alone and distilled), each a process; None: found by trying on a CPU."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints in the middle of a long epoch; each epoch's end has one anyway."""
    metrics: list[str] = field(default_factory=list)
    """What results are scored by beside the task's own measures, also written metrics=NAME; `attar list metrics`."""
    track: list[str] = field(default_factory=list)
    """Trackers that log the run, also written track=NAME: tensorboard, wandb, mlflow, trackio."""
    export: list[str] = field(default_factory=list)
    """Formats that the finished student is exported to, checked and timed, also written export=onnx,int8; `attar list
    formats`. The files go to export/ in the run's folder."""
    out: str | None = None
    """The run's folder; None: runs/METHOD-TEACHER-STUDENT-DATA."""


CHOICES: dict[str, Registry[Any] | tuple[str, ...]] = {
    "optim.name": OPTIMISERS,
    "optim.schedule": SCHEDULES,
    "precision": ("auto", "float32", "bfloat16"),
    "teacher.precision": ("auto", "float32", "bfloat16", "int8"),
    "select": ("last", "best"),
    "chain_from": ("last", "all"),
}

# Sections that may be written as a bare name, and whether other keys in them are options.
NAMED = ("teacher", "student", "data", "task", "method")


@cache
def attribute_docs(cls: type) -> dict[str, str]:
    """Each attribute's docstring, read from the source of the dataclass and its bases."""
    docs: dict[str, str] = {}
    for base in reversed([c for c in cls.__mro__ if dataclasses.is_dataclass(c)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for entry, text in itertools.pairwise(body):
            if isinstance(entry, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                docs[entry.target.id] = inspect.cleandoc(str(text.value.value))  # type: ignore[union-attr]
    return docs


def describe(cls: type = Recipe, prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, meaning) of every key of the recipe, in order: the text of --help."""
    rows = []
    for entry in dataclasses.fields(cls):
        section = entry.default_factory
        if dataclasses.is_dataclass(section):
            rows += describe(section, f"{prefix}{entry.name}.")
            continue
        default = entry.default if entry.default is not dataclasses.MISSING else section()  # type: ignore[operator]
        shown = "" if default in ("", {}) else str(default)
        rows.append((f"{prefix}{entry.name}", shown, attribute_docs(cls)[entry.name]))
    return rows
