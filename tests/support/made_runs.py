"""Folders of finished runs as a job leaves them, without any training."""

import json
from dataclasses import asdict

import numpy as np

from attar.files import write_json, write_text
from attar.metrics import Scores
from attar.metrics.predictions import Predictions, save_predictions
from attar.profiling import Cost
from attar.recipe import read_recipe, to_yaml

COUNT = 120


class MadeRun:
    """Writes a run's files; its numbers follow from the seed and are all different."""

    def __init__(self, folder, classes=10, seeds=1, teacher="resnet56", names=None, alone=True, epochs=3, **keys):
        self.folder, self.seeds = folder, seeds
        self.names = names or [f"class {n}" for n in range(classes)]
        self.random = np.random.default_rng(keys.pop("random", 0))
        self.labels = np.arange(COUNT, dtype=np.int32) % len(self.names)
        method = "kd" if teacher else "supervised"
        keys = {"student": "resnet20", "method": method, "data": {"name": "cifar100"}, "epochs": epochs, **keys}
        self.recipe = read_recipe(teacher=teacher or "", seeds=seeds, alone="train" if alone else "skip", **keys)
        write_text(folder / "recipe.yaml", to_yaml(self.recipe))
        write_json(folder / "environment.json", {"attar": "0.1.0", "runtime": {"precision": "float32"}, "gpu": None})
        write_text(folder / "graph.svg", "<svg><title>graph</title></svg>")
        self.teachers = [self.network("teacher", folder / "teacher", 0.9, 861_620)] if teacher else []
        self.runs = [self.one(folder if seeds == 1 else folder / f"seed{n}", alone) for n in range(seeds)]
        tree = {"sentence": "", "teachers": self.teachers, "runs": self.runs}
        write_json(folder / "results.json", tree)

    def one(self, folder, alone):
        write_json(folder / "student.json", {"spec": {}, "classes": self.names})
        found = {"alone": self.network("alone", folder / "alone", 0.5)} if alone else {}
        return {**found, "student": self.network("student", folder, 0.6)}

    def network(self, name, folder, right, parameters=278_324):
        """A network's entry of results.json, with its answers and curves written."""
        classes = len(self.names)
        wrong = self.random.integers(0, classes, COUNT)
        first = np.where(self.random.random(COUNT) < right, self.labels, wrong).astype(np.int32)
        top = np.stack([first, (first + 1) % classes], 1)
        confidence = self.random.uniform(0.5, 1.0, COUNT)
        sure = np.stack([confidence, 1 - confidence], 1).astype(np.float16)
        apart = None if name == "teacher" else self.random.exponential(1.0, COUNT).astype(np.float16)
        save_predictions(Predictions(self.labels, top, sure, apart), folder / "predictions.npz")
        records = [
            {"epoch": n + 1, "loss": 9.0 / (n + 1), "terms": {"labels->x": 1.0, "<i>a</i>->b": 5.0 / (n + 1)}}
            | {"train_top1": 20.0 * n, "val_top1": 15.0 * n}
            for n in range(self.recipe.epochs)
        ]
        write_text(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))
        hits = [float((first == self.labels)[self.labels == n].mean()) for n in range(classes) if n in self.labels]
        per_class = (*hits, *[None] * (classes - len(hits)))
        more = {} if name == "teacher" else {"agreement": 0.7123, "kl": 0.5}
        top1 = float((first == self.labels).mean())
        scores = Scores(COUNT, top1, 0.95, self.random.uniform(), self.random.uniform() / 9, 0.4, per_class, **more)
        cost = Cost(parameters, 40_000_000, self.random.uniform(1, 2), 0.1, 4 * parameters)
        return {"name": name, "scores": asdict(scores), "cost": asdict(cost)}
