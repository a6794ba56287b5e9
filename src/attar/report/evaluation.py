"""What scoring a network came to: its measures, each class, the confusion matrix, and every mistake with its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attar.files import write_json, write_text
from attar.metrics import Scoring
from attar.metrics.confusions import ClassScore, class_scores, confusion_counts
from attar.metrics.predictions import Predictions
from attar.report import html
from attar.report.summary import one_class
from attar.report.tables import Table

# A confusion matrix of more classes goes to its file alone; of more classes in the table of classes so many are shown.
MOST_CLASSES, SHOWN = 12, 20
# What a classifier's folder holds besides the scores.
FILES = ("per_class.csv", "confusion.csv", "mistakes.csv")


@dataclass(frozen=True, eq=False)
class Evaluation(Mapping[str, Any]):
    """The scores of a network by name, and what they are made of.

    Attributes:
        network: what was scored.
        data: the name of the set.
        scores: "count" and each measure of the task; of classifiers "per_class" too. They are the mapping's items.
        scoring: the task's measures.
        classes: their names, in the order of the logits.
        predictions: of every sample; None where the task keeps none.
        files: of every sample that was scored; None for one that comes from no file.
        numbers: the samples' numbers in the set.
    """

    network: str
    data: str
    scores: dict[str, Any]
    scoring: Scoring
    classes: tuple[str, ...] = ()
    predictions: Predictions | None = field(default=None, repr=False)
    files: tuple[Path | None, ...] = field(default=(), repr=False)
    numbers: tuple[int, ...] = field(default=(), repr=False)

    def __getitem__(self, key: str) -> Any:
        return self.scores[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """(K, K) counts of samples, true classes down, predicted ones across; None where the task has no classes."""
        return None if self.predictions is None else confusion_counts(self.predictions, len(self.classes))

    def per_class(self) -> dict[str, ClassScore]:
        """Precision, recall, F1 and count of every class by its name; none where the task has no classes."""
        if self.confusion is None:
            return {}
        return dict(zip(self.classes, class_scores(self.confusion), strict=True))

    def mistakes(self) -> list[dict[str, Any]]:
        """Every sample with a wrong class, the surest first: its file, classes, and their probabilities in per cent."""
        found = self.predictions
        if found is None:
            return []
        wrong = np.flatnonzero(~found.correct)
        order = wrong[np.argsort(-found.confidence[wrong, 0].astype(np.float64), kind="stable")]
        rows = []
        for place in order.tolist():
            names = [self.classes[number] for number in found.top[place].tolist()]
            sure = [round(100 * float(share), 2) for share in found.confidence[place]]
            row = {
                "file": str(self.files[place] or self.numbers[place]),
                "truth": self.classes[int(found.labels[place])],
                "predicted": names[0],
                "probability": sure[0],
            }
            rows.append(row | ({"second": names[1], "second_probability": sure[1]} if len(names) > 1 else {}))
        return rows

    def score_table(self) -> Table:
        """Each measure with its unit."""
        held = [one for one in self.scoring.measures if isinstance(self.scores.get(one.name), int | float)]
        title = f"{self.data} ({self.scores['count']:,} {self.scoring.entries})"
        row = [Path(self.network).name, *(one.text(self.scores[one.name]) for one in held)]
        return Table(title, ["", *(one.title for one in held)], [row])

    def class_table(self) -> Table:
        """Precision, recall and F1 of each class in per cent; of many classes those with the lowest F1."""
        found = self.per_class()
        rows = sorted(found.items(), key=lambda row: (row[1].f1 is None, row[1].f1 or 0.0))
        title = "Classes"
        if len(rows) > SHOWN:
            title, found = f"The {SHOWN} classes of lowest F1 (all {len(rows)} in per_class.csv)", dict(rows[:SHOWN])
        return Table(title, ["", "precision %", "recall %", "F1 %", self.scoring.entries], self._class_rows(found))

    def confusion_table(self) -> Table | None:
        """The confusion matrix; None where there is none, or too many classes for a table."""
        if self.confusion is None or not 1 < len(self.classes) <= MOST_CLASSES:
            return None
        title = "Confusion matrix (true class down, predicted class across)"
        return Table(title, ["", *self.classes], self._counts())

    def hints(self) -> list[str]:
        """A line where the network gives one class to nearly everything."""
        line = one_class(self.scores.get("per_class") or ())
        return [f"It {line}."] if line else []

    def write(self, folder: str | Path) -> Path:
        """scores.json, and of classifiers per_class.csv, confusion.csv and mistakes.csv; the folder.

        Without classes the tables that an earlier evaluation left there are deleted.
        """
        folder, held = Path(folder), self._files()
        write_json(folder / "scores.json", {"network": self.network, "data": self.data, **self.scores})
        for name in FILES:
            if name in held:
                write_text(folder / name, held[name].csv())
            else:
                (folder / name).unlink(missing_ok=True)
        return folder

    def _files(self) -> dict[str, Table]:
        """The tables of a classifier by the name of their file."""
        if self.confusion is None:
            return {}
        keys = ["file", "truth", "predicted", "probability", "second", "second_probability"]
        tables = (
            Table("", ["class", "precision %", "recall %", "F1 %", "count"], self._class_rows(self.per_class())),
            Table("", ["true class", *self.classes], self._counts()),
            Table("", keys, [[str(row.get(key, "")) for key in keys] for row in self.mistakes()]),
        )
        return dict(zip(FILES, tables, strict=True))

    def _class_rows(self, found: Mapping[str, ClassScore]) -> list[list[str]]:
        return [
            [name, _share(one.precision), _share(one.recall), _share(one.f1), str(one.count)]
            for name, one in found.items()
        ]

    def _counts(self) -> list[list[str]]:
        assert self.confusion is not None
        return [[name, *map(str, row)] for name, row in zip(self.classes, self.confusion.tolist(), strict=True)]

    def tables(self) -> list[Table]:
        """What is printed: the measures, the classes and their confusions."""
        found = [self.score_table(), *([self.class_table()] if self.confusion is not None else [])]
        return [*found, *([matrix] if (matrix := self.confusion_table()) else [])]

    def _repr_html_(self) -> str:
        return "".join(html.table(table) for table in self.tables())


def _share(value: float | None) -> str:
    """A share in per cent; nothing where there is none."""
    return "" if value is None else f"{100 * value:.1f}"
