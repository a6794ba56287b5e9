"""The recipe: everything a run depends on, as dataclasses whose attribute docstrings are the help.

YAML files, `key=value` overrides and keyword arguments all fill the same schema, so a misspelt key, a wrong type or
an unknown name is found before anything is written.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import itertools
import math
import os
import re
import textwrap
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attar import recipes
from attar.choices import OPTIMISERS, SCHEDULES
from attar.errors import AttarError, unknown
from attar.registry import Registry
from attar.yaml_text import MOST_BYTES, check_yaml


@dataclass
class ModelRecipe:
    """A network."""

    name: str = ""
    """A network of the zoo (`attar list networks`), of a library (timm/NAME), or a finished run's folder."""
    weights: str | None = None
    """A .safetensors or .pth file to start from."""
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
    """How many images that training sees; None: as many as the student's."""
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
    Hugging Face datasets) or webdataset (tar shards); of other tasks text (a UTF-8 file), cells (images with dots),
    sionna (simulated channels), channels (a .npz of them)."""
    root: str | None = None
    """The folder or file that holds the data; None: where downloads are kept."""
    val_fraction: float = 0.05
    """The part of the training set kept apart for validation, the same share of every class."""
    train_size: int | None = None
    """Train on only so many images, the same share of every class; None: all."""
    view_seed: int | None = None
    """Seed of the crops and flips; None: the run's. Seeds that share one can share a teacher's cache."""
    unlabelled: str | None = None
    """A folder of images without labels, of any layout, that join the training batches; see docs/data.md."""
    unlabelled_batch: int | None = None
    """How many of them a batch gets beside its batch_size labelled ones; None: as many, or all where they are fewer."""
    mixup: float = 0.0
    """Mix each image and its label with another's, its share from Beta(alpha, alpha) with this alpha; 0: no mixup."""
    cutmix: float = 0.0
    """Paste a rectangle of another image into each, likewise; 0: no CutMix. With both, each image draws which."""
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
    """Whom each network of a chain learns from: last, the one before it, or all before it (DGKD)."""
    data: DataRecipe = field(default_factory=DataRecipe)
    """The data, also written data=NAME."""
    task: TaskRecipe = field(default_factory=TaskRecipe)
    """What is learnt, also written task=NAME."""
    method: MethodRecipe = field(default_factory=MethodRecipe)
    """The distillation method, also written method=NAME."""
    optim: OptimRecipe = field(default_factory=OptimRecipe)
    """How the networks learn."""
    epochs: int = 10
    """Passes over the training set."""
    batch_size: int = 128
    """Samples per step."""
    seed: int = 0
    """Where all randomness starts."""
    seeds: int = 1
    """How many seeds to run, from `seed` upwards; the table then gives means and intervals."""
    alone: str = "train"
    """The student trained alone, for comparison: train, skip, or the folder of an earlier run."""
    select: str = "last"
    """Which weights are deployed: last, or best on the validation set."""
    precision: str = "auto"
    """float32, bfloat16, or auto: bfloat16 where its step is clearly faster, found by trying."""
    compile: bool | None = None
    """torch.compile of each step, where results agree; None: tried in a long run, kept where clearly faster."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    jobs: int | None = None
    """How many trainings go at a time (seeds; alone and distilled), each a process; None: found by trying on a CPU."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints in the middle of a long epoch; each epoch's end has one anyway."""
    metrics: list[str] = field(default_factory=list)
    """What results are scored by beside the task's own measures, also written metrics=NAME; `attar list metrics`."""
    track: list[str] = field(default_factory=list)
    """Who follows the run, also written track=NAME: tensorboard, wandb, mlflow, trackio."""
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
# What is quoted of a library's message.
LONGEST_MESSAGE = 300
# Sections that may be written as a bare name, and whether other keys in them are options.
NAMED = ("teacher", "student", "data", "task", "method")


def read_recipe(file: str | Path | None = None, overrides: list[str] | tuple[str, ...] = (), **values: Any) -> Recipe:
    """A recipe from a YAML file, dotted overrides ("optim.lr=0.1") and keyword values, later ones winning.

    Raises:
        AttarError: the file is missing or is no YAML, a key is unknown, or a value has the wrong type or range.

    >>> recipe = read_recipe(overrides=["teacher=resnet56", "student=resnet20", "method.temperature=2"])
    >>> recipe.teacher.name, recipe.method.options
    ('resnet56', {'temperature': 2})
    """
    merged = OmegaConf.structured(Recipe())
    try:
        for layer in ([_load(file)] if file else []) + [_together(overrides), values]:
            _check_keys(layer := _at_home(normalise(layer)))
            _check_sizes(layer)
            _drop_old_options(merged, layer)
            merged = OmegaConf.merge(merged, optimiser_defaults(merged.optim.name, layer), layer)
        recipe = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError, TypeError, OverflowError) as error:
        # Our own messages are one line already; OmegaConf's come with a trailer.
        raise error if isinstance(error, AttarError) else AttarError(_one_line(error)) from None
    assert isinstance(recipe, Recipe)
    _check_values(recipe)
    return recipe


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML, every default spelled out."""
    return OmegaConf.to_yaml(OmegaConf.structured(recipe))


def normalise(tree: dict[str, Any]) -> dict[str, Any]:
    """Bare names become sections or lists, and keys that a section does not know become its options."""
    tree = dict(tree)
    for key in ("track", "metrics"):
        if isinstance(tree.get(key), str):
            tree[key] = [name.strip() for name in tree[key].split(",") if name.strip()]
    schema = {f.name: f for f in dataclasses.fields(Recipe)}
    for section in NAMED:
        if section not in tree:
            continue
        given = tree[section]
        if given is None or isinstance(given, str):
            tree[section] = {"name": given or ""}
            continue
        if not isinstance(given, dict):
            raise AttarError(f"{section}: expected a name or a section of keys, got {_shown(given)}")
        known = {f.name for f in dataclasses.fields(schema[section].default_factory)}  # type: ignore[arg-type]
        # Only methods, tasks and data sets have settings of their own that read better without .options.
        extra = {k: v for k, v in given.items() if k not in known} if section in ("method", "task", "data") else {}
        if extra:
            kept = {k: v for k, v in given.items() if k in known}
            options = kept.get("options") or {}
            if not isinstance(options, dict):
                raise AttarError(f"{section}.options: expected a section of keys, got a {type(options).__name__}")
            tree[section] = {**kept, "options": {**options, **extra}}
    return tree


def optimiser_defaults(before: str, layer: dict[str, Any]) -> dict[str, Any]:
    """A layer with the defaults of the optimiser that another layer names; empty where it names no other one.

    Raises:
        AttarError: that optimiser has no learning rate of its own, and the layer gives none.
    """
    optim = layer.get("optim") or {}
    name = optim.get("name")
    if not isinstance(name, str) or name == before or name not in OPTIMISERS.names():
        return {}
    defaults = dict(OPTIMISERS[name].defaults)
    if "lr" not in {**defaults, **optim}:
        raise AttarError(f"optimiser {name!r} has no learning rate of its own; give optim.lr=")
    return {"optim": defaults}


def layered(*trees: dict[str, Any]) -> dict[str, Any]:
    """Recipe values of several layers as one tree, later ones winning.

    What belongs to a name goes with it: a layer that names another method, network, data set or optimiser begins
    without the options, the weights and the learning rate of the one before.
    """
    merged: dict[str, Any] = {}
    for tree in map(normalise, trees):
        for section in (*NAMED, "optim"):
            earlier, later = merged.get(section) or {}, tree.get(section) or {}
            before = earlier.get("name", OptimRecipe.name if section == "optim" else None)
            if isinstance(later, dict) and before is not None and later.get("name", before) != before:
                own = ("lr", "weight_decay") if section == "optim" else ("options", "weights")
                merged[section] = {key: value for key, value in earlier.items() if key not in own}
        merged = OmegaConf.to_container(OmegaConf.merge(merged, tree))  # type: ignore[assignment]
    return merged


def _drop_old_options(merged: Any, layer: dict[str, Any]) -> None:
    """Options and weights belong to a name: a layer that names another method or network begins without them."""
    for section in NAMED:
        name = layer.get(section, {}).get("name")
        if name is not None and name != merged[section].name:
            merged[section].options = {}
            if "weights" in merged[section]:
                merged[section].weights = None


def _together(overrides: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """All overrides as one layer, so that their order only matters where they speak of the same key."""
    trees = [normalise(parse(override)) for override in overrides]
    for tree in trees:
        _check_keys(tree)
    return OmegaConf.to_container(OmegaConf.merge(*trees)) if trees else {}  # type: ignore[return-value]


def _load(file: str | Path) -> dict[str, Any]:
    # A bare name is a packaged recipe.
    return load_yaml(recipes.path(str(file)) if not Path(file).suffix else Path(file), "recipe")


def load_yaml(path: Path, kind: str) -> dict[str, Any]:
    """A YAML mapping from a file.

    Args:
        path: the file.
        kind: what it should be, for the messages.

    Raises:
        AttarError: it is missing, is no YAML, or holds something else.
    """
    if not path.is_file():
        raise AttarError(f"{kind} {str(path)!r} is no file; `attar distill --help` lists the keys of a recipe")
    if path.stat().st_size > MOST_BYTES:
        raise AttarError(f"{kind} {str(path)!r} has more than {MOST_BYTES} bytes; is it the right file?")
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text, f"{kind} {str(path)!r}")
        loaded, texts = OmegaConf.load(io.StringIO(text)), yaml.load(text, TextLoader)
    except AttarError:
        raise
    except Exception as error:  # every parser error means the same to the user
        raise AttarError(f"{kind} {str(path)!r} is no YAML: {_one_line(error)}") from None
    if not isinstance(loaded, DictConfig):
        raise AttarError(f"{kind} {str(path)!r} must be a mapping of keys to values")
    return _with_texts(OmegaConf.to_container(loaded), texts)


class TextLoader(yaml.SafeLoader):
    """YAML whose values are all text, as written, but for null."""


TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _with_texts(tree: Any, texts: Any, section: str = "", key: str = "") -> Any:
    """A tree read as YAML in which keys that hold text have it as it was written: 2024_05, no, 010.

    Args:
        tree: from YAML.
        texts: the same, all values as text.
        section: the key around it; none at the top, in a suite's recipe and in the sections of its lists.
        key: its own key.
    """
    if isinstance(tree, dict) and isinstance(texts, dict) and len(tree) == len(texts):
        outer = "" if key == "recipe" and not section else key
        pairs = zip(tree.items(), texts.values(), strict=True)
        return {name: _with_texts(value, text, outer, str(name)) for (name, value), text in pairs}
    if isinstance(tree, list) and isinstance(texts, list) and len(tree) == len(texts):
        return [_with_texts(value, text) for value, text in zip(tree, texts, strict=True)]
    return texts if isinstance(texts, str) and _holds_text(f"{section}.{key}" if section else key) else tree


@cache
def _text_keys() -> frozenset[str]:
    """The keys of the recipe that hold text, with the sections that may be written as a bare name."""

    def keys(cls: type, prefix: str) -> list[str]:
        found = []
        for name, kind in get_type_hints(cls).items():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                found += keys(kind, f"{prefix}{name}.")
            elif kind in (str, str | None):
                found.append(f"{prefix}{name}")
        return found

    return frozenset([*NAMED, *keys(Recipe, "")])


def _holds_text(key: str) -> bool:
    return key in _text_keys()


def listed(names: str) -> list[str]:
    """The names or paths in a text with commas between them; a comma in a path that exists does not part it.

    >>> listed("resnet56, resnet20")
    ['resnet56', 'resnet20']
    """
    parts, found = names.split(","), []
    while parts:
        whole = (n for n in range(len(parts), 1, -1) if Path(",".join(parts[:n]).strip()).expanduser().exists())
        count = next(whole, 1)
        found.append(",".join(parts[:count]).strip())
        parts = parts[count:]
    return found


def _at_home(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A layer whose texts have the home folder for a leading ~, which not every shell puts there."""
    home = os.path.expanduser("~")  # stays ~ where a user has no home
    return {
        key: _at_home(value, f"{key}.")
        if isinstance(value, dict)
        else re.sub(r"(^|,)~(?=/|$)", lambda match: match[1] + home, value)
        if isinstance(value, str) and _holds_text(f"{prefix}{key}")
        else value
        for key, value in tree.items()
    }


def parse(override: str) -> dict[str, Any]:
    """One "key=value" as a tree, its value read as YAML; a key that holds text takes it as it is.

    >>> parse("data.root=2024_05"), parse("seed=2024_05")
    ({'data': {'root': '2024_05'}}, {'seed': 202405})
    >>> parse('method.weights."labels->student.logits"=until(30)')
    {'method': {'weights': {'labels->student.logits': 'until(30)'}}}
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise AttarError(f"expected key=value, got {override!r}; for example epochs=10")
    if _is_plain_text(key, value):
        return _nested(key.split("."), value)
    try:
        check_yaml(value, f"{key[:60]}=")
        if '"' in key:
            # A part in quotation marks is one key, whatever dots it has.
            parts = [quoted or plain for quoted, plain in re.findall(r'"([^"]+)"|([^."]+)', key)]
            return _nested(parts, OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))["value"])  # type: ignore[index, call-overload]
        tree: Any = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
    except AttarError:
        raise
    except Exception as error:
        raise AttarError(f"{override!r} cannot be read: {_one_line(error)}") from None
    return tree


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    """A value under nested keys."""
    held: dict[str, Any] = {keys[-1]: value}
    for key in reversed(keys[:-1]):
        held = {key: held}
    return held


def _is_plain_text(key: str, value: str) -> bool:
    """Whether a value is text: not in quotation marks, not nothing, not a YAML section where a bare name may stand."""
    section = key in NAMED and value.lstrip()[:1] in ("{", "[")
    return _holds_text(key) and value not in ("", "null") and value[0] not in "'\"" and not section


def _check_keys(tree: dict[str, Any], cls: type = Recipe, prefix: str = "") -> None:
    """Unknown keys, each answered with the nearest full key."""
    known = {f.name: f for f in dataclasses.fields(cls)}
    for key, given in tree.items():
        if key not in known:
            raise unknown("key", f"{prefix}{key}", [f"{prefix}{name}" for name in known])
        section = known[key].default_factory
        if dataclasses.is_dataclass(section):
            if not isinstance(given, dict):
                raise AttarError(f"{prefix}{key}: expected a section of keys, got {_shown(given)}")
            _check_keys(given, section, f"{prefix}{key}.")


def _check_sizes(given: Any, key: str = "") -> None:
    """No whole number is too large for 64 bits, wherever it stands."""
    if isinstance(given, int) and abs(given) >= 2**63:
        raise AttarError(f"{key} is too large: a whole number must be below 2^63")
    parts = given.items() if isinstance(given, dict) else enumerate(given) if isinstance(given, list) else ()
    for part, inner in parts:
        _check_sizes(inner, f"{key}.{part}" if key else str(part))


def _shown(given: Any) -> str:
    """A value in a message: itself where it is short and simple."""
    return repr(given) if isinstance(given, str | int | float | None) else f"a {type(given).__name__}"


def _check_values(recipe: Recipe) -> None:
    for key, choices in CHOICES.items():
        given: Any = recipe
        for part in key.split("."):
            given = getattr(given, part)
        if given not in choices:
            raise unknown(f"value of {key}:", str(given), choices)
    optim = recipe.optim
    positive: dict[str, float | None] = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "seeds": recipe.seeds,
        "checkpoint_minutes": recipe.checkpoint_minutes,
        "jobs": recipe.jobs,
        "teacher.epochs": recipe.teacher.epochs,
        "teacher.cache_top": recipe.teacher.cache_top,
        "data.unlabelled_batch": recipe.data.unlabelled_batch,
        "optim.lr": optim.lr,
        "optim.gamma": optim.gamma,
        "optim.accumulate": optim.accumulate,
        "optim.clip_norm": optim.clip_norm,
    }
    for key, number in positive.items():
        if number is not None and not 0 < number < math.inf:
            raise AttarError(f"{key} must be above 0, got {number}")
    not_negative = {
        "optim.weight_decay": optim.weight_decay,
        "optim.warmup": optim.warmup,
        "data.mixup": recipe.data.mixup,
        "data.cutmix": recipe.data.cutmix,
    }
    for key, number in not_negative.items():
        if not 0 <= number < math.inf:
            raise AttarError(f"{key} must be 0 or above, got {number}")
    shares = {
        "data.val_fraction": recipe.data.val_fraction,
        "optim.momentum": optim.momentum,
        "optim.delta": optim.delta,
        "optim.label_smoothing": optim.label_smoothing,
    }
    for key, number in shares.items():
        if not 0 <= number < 1:
            raise AttarError(f"{key} must be in [0, 1), got {number}")
    if optim.ema is not None and not 0 < optim.ema < 1:
        raise AttarError(f"optim.ema must be between 0 and 1, got {optim.ema}")
    if not 0 <= recipe.seed < 2**63 - recipe.seeds:
        raise AttarError(f"seed must be in 0..2^63, got {recipe.seed}")
    for key, entries, kind in (("track", recipe.track, str), ("optim.milestones", optim.milestones, float)):
        for entry in entries:
            if not isinstance(entry, kind):
                raise AttarError(f"{key} must be a list of {kind.__name__}, got {_shown(entry)} in it")
    for milestone in optim.milestones:
        if not 0 <= milestone <= 1:
            raise AttarError(f"optim.milestones are parts of the training, 0 to 1; got {milestone}")
    if recipe.select == "best" and recipe.data.val_fraction == 0:
        raise AttarError("select=best needs a validation set; give data.val_fraction, or select=last")


def _one_line(error: Exception) -> str:
    """OmegaConf's message without its trailer, the key first; a parser's with the line."""
    if problem := getattr(error, "problem", None):
        context = f"{error.context}, " if problem.startswith("but ") else ""  # type: ignore[attr-defined]
        mark = getattr(error, "problem_mark", None)
        return f"{context}{problem} (line {mark.line + 1})" if mark else f"{context}{problem}"
    first, *rest = str(error)[:LONGEST_MESSAGE].splitlines() or ["unreadable"]
    full = next((line.split(":", 1)[1].strip() for line in rest if line.strip().startswith("full_key")), "")
    return f"{full}: {first}" if full else first


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
