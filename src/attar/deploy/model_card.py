"""The model card: README.md with the front matter that model hubs read, the scores, and how to use the student."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

from attar.deploy.export import Export
from attar.deploy.formats import FORMATS, Format
from attar.deploy.trained_run import Trained
from attar.errors import AttarError
from attar.methods import MethodInfo, method_info
from attar.metrics import Measure, summarise
from attar.models.graphs.traced import RESIZE
from attar.profiling import Result

# What data sets are called on the hub.
HUB_DATA = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
# What tasks and measures are called there.
HUB_TASKS = {
    "classification": "image-classification",
    "multilabel": "image-classification",
    "language": "text-generation",
}
HUB_METRICS = {"top1": "accuracy"}


@dataclass(frozen=True)
class CardText:
    """Everything the card is written from.

    Attributes:
        trained: the student, its JSON and its run's results.
        export: the files.
        files_table: their measurements, as Markdown.
        licence: an identifier that hubs accept ("apache-2.0").
        loading: how to load the student where there are no files.
    """

    trained: Trained
    export: Export
    files_table: str
    licence: str = "unknown"
    loading: str = ""

    @property
    def card(self) -> dict[str, Any]:
        return self.trained.card

    @property
    def task(self) -> str:
        """What it has learnt; runs of older versions are of classifiers."""
        return str(self.card.get("task") or "classification")

    @property
    def data(self) -> str:
        """What the data are called; of a folder the last part, because the rest is about somebody's machine."""
        return PurePath(str(self.card.get("data_title") or self.card["data"])).name

    @property
    def network(self) -> str:
        spec = self.card["spec"]
        while isinstance(spec.get("network"), dict):  # behind what prepares its images
            spec = spec["network"]
        return str(spec.get("name") or spec.get("model") or spec.get("kind") or "network")

    @property
    def kinds(self) -> list[Format]:
        """The formats of the files, in their order."""
        return [FORMATS[file.format] for file in self.export.files]

    @property
    def methods(self) -> list[MethodInfo]:
        """What was used; a method from a file of the user's own is not known here."""
        known = []
        for name in str(self.card.get("method") or "").split("+"):
            try:
                known.append(method_info(name.strip()))
            except AttarError:
                continue
        return known

    def front_matter(self) -> str:
        """YAML that any parser reads back, whatever the names are."""
        method = str(self.card.get("method") or "")
        kind = HUB_TASKS.get(self.task, self.task)
        tags = [kind, "attar"]
        if method and method != "supervised":
            tags += ["knowledge-distillation", *(part.strip() for part in method.split("+"))]
        # Files of these kinds are looked for by those tags.
        tags += dict.fromkeys(kind.tag for kind in self.kinds if kind.tag)
        measure = self.export.scoring.primary
        metric = HUB_METRICS.get(measure.name, measure.name)
        tree: dict[str, Any] = {
            "license": self.licence,
            "library_name": "attar",
            "pipeline_tag": kind,
            "tags": tags,
            "datasets": [HUB_DATA.get(self.data, self.data)],
            "metrics": [metric],
        }
        if bases := hub_names(str(self.card.get("teacher") or "")):
            tree["base_model"] = bases
        if test := self.card.get("test"):
            tree["model-index"] = [
                {
                    "name": f"{self.network} ({self.data})",
                    "results": [
                        {
                            "task": {"type": kind},
                            "dataset": {"name": self.data, "type": HUB_DATA.get(self.data, self.data), "split": "test"},
                            "metrics": [{"type": metric, "name": measure.label, "value": test[measure.name]}],
                        }
                    ],
                }
            ]
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)

    def text(self) -> str:
        """The whole README.md."""
        parts = [
            f"---\n{self.front_matter()}---",
            f"# {plain(self.network)}, {self._origin()}",
            self._source(),
            "## Scores",
            self._scores(),
            *(["## Files", self._compared(), self.files_table] if self.export.files else []),
            *(["## Images", self._images()] if "image_shape" in self.card else ["## Inputs", self._inputs()]),
            "## Loading",
            self._loading(),
            "## Limits",
            self._limits(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _compared(self) -> str:
        return f"Compared with the student in PyTorch on {self.export.count:,} test {self.export.scoring.samples}."

    def _origin(self) -> str:
        teacher, method = self.card.get("teacher"), self.card.get("method")
        if teacher:
            return f"distilled from {plain(teacher)} on {plain(self.data)}"
        verb = "trained" if method in (None, "supervised") else f"trained with {plain(method)}"
        return f"{verb} on {plain(self.data)}"

    def _source(self) -> str:
        lines = []
        for info in self.methods:
            published = ", ".join(part for part in (info.paper, str(info.year)) if part)
            lines.append(f"- Method: {info.title} (`{info.name}`" + (f"; {published})" if info.paper else ")"))
        if not lines and self.card.get("method"):
            lines.append(f"- Method: {plain(self.card['method'])}")
        if self.card.get("teacher"):
            lines.append(f"- Teacher: {plain(self.card['teacher'])}")
        classes = f", {len(self.card['classes'])} classes" if self.card["classes"] else ""
        lines.append(f"- Data: {plain(self.data)}{classes}")
        if (seed := self.card.get("seed")) is not None:
            lines.append(f"- Seed: {seed}")
        return "\n".join(lines)

    def _scores(self) -> str:
        """Teacher, student alone and student, from results.json; of a lone file those in its JSON."""
        results = self.trained.results
        rows = _rows(*results[:2]) if results else []
        if not rows and (test := self.card.get("test")):
            rows = [("student", [test])]
        if not rows:
            return "Not measured."
        scoring = self.export.scoring
        measures = scoring.columns(one for _, scores in rows for one in scores)
        lines = ["| network | " + " | ".join(one.title for one in measures) + " |", "|---|" + "---:|" * len(measures)]
        for name, scores in rows:
            cells = [_cell(one, [row[one.name] for row in scores if row.get(one.name) is not None]) for one in measures]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        count = rows[-1][1][0].get("count")
        note = f"On the test set ({count:,} {scoring.entries})." if count else "On the test set."
        if (seeds := max(len(scores) for _, scores in rows)) > 1:
            own = f"; these files are of seed {self.card['seed']}" if "seed" in self.card else ""
            measure, test = scoring.primary, self.card["test"]
            phrase = measure.phrase(measure.scale * test[measure.name])
            note += f" Mean ± standard deviation of {seeds} seeds{own}: {phrase}."
        return "\n".join(lines) + "\n\n" + note

    def _images(self) -> str:
        channels, height, width = self.card["image_shape"]
        order = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        options = self.card.get("data_options") or {}
        read = f" (read size {options['resize_size']})" if options.get("resize_size") else " (both the same here)"
        numbers = [f"mean {_numbers(self.card['mean'])}", f"deviation {_numbers(self.card['std'])}"]
        how = (
            "The graph files take uint8 pixels 0..255 and normalise them inside"
            if self.export.baked
            else "Pixels become float32 as (pixel / 255 - mean) / deviation"
        )
        held = " The ONNX files hold this, and the classes, in their metadata." if self.export.files else ""
        return (
            f"{height} x {width} pixels, {order}, N x C x H x W. From an image file: upright, {RESIZE}{read}. {how}: "
            f"{', '.join(numbers)}.{held}"
        )

    def _inputs(self) -> str:
        """What samples of other kinds than images are, from the JSON beside the weights."""
        shape = " x ".join(map(str, ("N", *self.card["input_shape"])))
        known = ("tokenizer", "mean", "std")
        facts = [f"{key} {plain(self.card[key])}" for key in known if key in self.card]
        return ", ".join([f"{shape} as in training", *facts]) + ". The graph files hold this in their metadata."

    def _loading(self) -> str:
        ways = [*(kind.loading for kind in self.kinds), self.loading]
        blocks = [f"```python\n{way}\n```" for way in ways if way]
        ready = sorted((kind for kind in self.kinds if kind.classifier), key=lambda kind: not kind.graph)
        if ready and "image_shape" in self.card:
            blocks.append(f"```\nattar predict {ready[0].file} photo.jpg\n```")
        return "\n\n".join(blocks)

    def _limits(self) -> str:
        samples, measure = self.export.scoring.samples, self.export.scoring.primary
        lines = [
            f"- It was measured on the test set of {plain(self.data)} alone; on {samples} of another kind its "
            f"{measure.label} is not known.",
        ]
        if "image_shape" in self.card:
            count = len(self.card["classes"])
            limit = f"assigns every image to one of its {count} classes, whatever the image shows"
            if self.card.get("multilabel"):
                limit = f"gives each of its {count} labels a probability of its own, and finds no other"
            lines.insert(0, f"- It {limit}.")
        if "ece" in (test := self.card.get("test") or {}):
            off = f"off by {100 * test['ece']:.1f} points on average (ECE, 15 bins)"
            lines.append(
                f"- Its probabilities are {off}; calibrate them before they are used as such."
                if self.export.temperature == 1
                else f"- Probabilities from its weights alone are {off}; the graph files divide the logits by the "
                f"temperature {self.export.temperature:.2f}, fitted on validation images."
            )
        if self.card.get("teacher"):
            lines.append(f"- What its teacher gets wrong it may have learnt, and biases of the training {samples} too.")
        return "\n".join(lines)


def hub_names(teacher: str) -> list[str]:
    """The teachers that are named as on a hub, owner/name, without the prefix of whoever loads them.

    >>> hub_names("resnet56, hf:microsoft/resnet-18")
    ['microsoft/resnet-18']
    """
    found = (re.fullmatch(r"(?:[\w-]+:)?([\w-]+/[\w.-]+)", name.strip()) for name in teacher.split(","))
    return [match[1] for match in found if match]


def plain(name: Any) -> str:
    """A name in running Markdown: on one line, and nothing in it is markup.

    >>> print(plain("a|b *c*"))
    a\\|b \\*c\\*
    """
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(str(name).split()))


def _rows(teachers: list[Result], runs: list[dict[str, Result]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The scores in results.json: every teacher, then each network over the seeds."""
    rows = [
        ("teacher" + (f" {number}" if len(teachers) > 1 else ""), [one.scores])
        for number, one in enumerate(teachers, 1)
    ]
    names = {"alone": "student alone", "student": "student"}
    return [*rows, *((names.get(key, key), [run[key].scores for run in runs]) for key in runs[0])]


def _cell(measure: Measure, values: list[float]) -> str:
    if not values:
        return ""
    mean = summarise([measure.scale * value for value in values])
    return f"{mean.mean:.{measure.digits}f}" + (f" ± {mean.std:.{measure.digits}f}" if mean.std is not None else "")


def _numbers(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
