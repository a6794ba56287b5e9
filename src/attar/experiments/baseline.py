"""The baseline (the student without a teacher) read from an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from attar.deploy import load_card
from attar.errors import AttarError
from attar.experiments.inputs_record import RECORD, Fingerprints, read_inputs
from attar.models.libraries.configurations import named_kind
from attar.models.libraries.names import CONFIGS
from attar.profiling import Result, read_scores
from attar.recipe import ModelRecipe, Recipe, data_title, read_recipe, with_found_rate


def earlier_baseline(
    root: Path, student: ModelRecipe, classes: Sequence[str], seed: int, inputs: Fingerprints
) -> Result:
    """One seed's result: of the run that a distillation trained beside itself, or of a run of `attar train`.

    Args:
        root: the earlier run's folder.
        student: the network.
        classes: of the images.
        seed: of the training.
        inputs: of this run.

    Raises:
        AttarError: there is none, or it is of another network, an option of it, another seed, set of classes or test
            set.
    """
    folder = baseline_folder(root, seed)
    card = load_card(folder / "student.safetensors")
    name, options = _network(card["spec"])
    wanted = {"network": named_kind(student.name), "method": "supervised", "seed": seed}
    held = {"network": name, "method": card.get("method"), "seed": card.get("seed", seed)}
    wanted |= {key: value for key, value in student.options.items() if key in options}
    held |= {key: options[key] for key in student.options if key in options}
    for what, value in wanted.items():
        if held[what] != value:
            raise AttarError(f"alone={root}: {folder} has {what} {held[what]!r}, this run {value!r}; give alone=train")
    if list(card.get("classes", ())) != list(classes):
        raise AttarError(f"alone={root}: {folder} was trained on other classes; give alone=train")
    record = recorded(root, seed, RECORD)
    began = (read_inputs(record.parent) if record else None) or {}
    if any(began.get(name, own) != own for name, own in inputs.items() if name.startswith("test ")):
        raise AttarError(f"alone={root}: {folder} was scored on another test set; give alone=train")
    return replace(read_scores(folder, "give alone=train, or another run")[0], name="alone")


def trained_otherwise(recipe: Recipe) -> str | None:
    """A warning of what a run's earlier baseline was trained with and the run is not; None where all is the same."""
    root = Path(recipe.alone)
    file = recorded(root, recipe.seed, "recipe.yaml")
    if file is None:
        return None
    theirs = read_recipe(file)
    before, now = (trained_with(one) for one in (theirs, with_found_rate(recipe, theirs)))
    apart = [f"{key}={before[key]} (here {now[key]})" for key in now if before[key] != now[key]]
    return f"alone={root} was trained with {', '.join(apart)}: the gain is not the method's alone" if apart else None


def trained_with(recipe: Recipe) -> dict[str, Any]:
    """What decides how a network alone is trained; where its data lie does not."""
    sections = {
        "data": asdict(replace(recipe.data, name=data_title(recipe.data), root=None)),
        "optim": asdict(recipe.optim),
    }
    keys = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return {"epochs": recipe.epochs, "batch_size": recipe.batch_size, **keys}


def recorded(root: Path, seed: int, name: str) -> Path | None:
    """A file of the run that an earlier baseline belongs to."""
    folder = baseline_folder(root, seed)
    return next((place / name for place in (folder, folder.parent, root) if (place / name).is_file()), None)


def baseline_folder(root: Path, seed: int) -> Path:
    """Where one seed's baseline lies.

    Raises:
        AttarError: there is none.
    """
    places = [root / f"seed{seed}" / "alone", root / "alone", root / f"seed{seed}", root]
    folder = next((place for place in places if (place / "scores.json").is_file()), None)
    if folder is None:
        raise AttarError(f"alone={root}: no finished run of seed {seed} there; give train, skip or a run's folder")
    return folder


def _network(spec: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """The name and the settings of a network, of which its options are some."""
    if spec.get("kind") in ("causal_lm", "text_classifier"):
        return CONFIGS + str(spec["config"]["model_type"]), spec["config"]
    # A network of another library lies inside what fits it to the images.
    inner = spec.get("network", spec)
    return inner.get("name", inner.get("model")), inner
