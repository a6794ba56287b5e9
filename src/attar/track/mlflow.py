"""MLflow: a run for each training, found again by its id, at MLFLOW_TRACKING_URI: a file or a server."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from attar.track.tracker import Epoch, Subject, flat, register_tracker

ID_TAG, JOB_TAG = "attar.id", "attar.job"
# What MLflow takes at once, and of one parameter.
PARAMS_AT_ONCE, PARAM_LENGTH = 100, 6000


@register_tracker("mlflow", title="MLflow", package="mlflow", extra="mlflow")
class MLflow:
    """A run tagged with the training's id, in the experiment MLFLOW_EXPERIMENT_NAME (attar)."""

    place = ""

    def start(self, subject: Subject, logged: int) -> int:
        """Begin or go on; every point that is there already is known, so that none is written twice."""
        # MLflow's own patience, minutes for each call, would stop the training.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import MlflowClient

        self.client: Any = MlflowClient()
        self.last = 0
        experiment = self._experiment()
        found = self.client.search_runs([experiment], f"tags.`{ID_TAG}` = '{subject.id}'")
        self.id = found[0].info.run_id if found else self._new_run(experiment, subject)
        self.client.update_run(self.id, status="RUNNING")
        names = self.client.get_run(self.id).data.metrics
        self.held = {(name, point.step) for name in names for point in self.client.get_metric_history(self.id, name)}
        return 0

    def epoch(self, epoch: Epoch) -> None:
        """One point of each metric."""
        self._log(epoch.values, epoch.number, round(1000 * epoch.time))
        self.last = epoch.number

    def finish(self, results: Mapping[str, float] | None) -> None:
        """The results as metrics at the last epoch; a stopped run is KILLED until it is resumed."""
        if results:
            self._log({f"results/{name}": value for name, value in results.items()}, self.last)
        self.client.set_terminated(self.id, "FINISHED" if results is not None else "KILLED")

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "attar")
        found = self.client.get_experiment_by_name(name)
        return found.experiment_id if found else self.client.create_experiment(name)

    def _new_run(self, experiment: str, subject: Subject) -> str:
        from mlflow.entities import Param

        tags = {ID_TAG: subject.id, JOB_TAG: subject.job}
        run_id: str = self.client.create_run(
            experiment, tags=tags, run_name=f"{subject.job}/{subject.name}"
        ).info.run_id
        params = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in flat(subject.recipe).items()]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            self.client.log_batch(run_id, params=params[first : first + PARAMS_AT_ONCE])
        return run_id

    def _log(self, values: Mapping[str, float], step: int, when: int | None = None) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        when = get_current_time_millis() if when is None else when
        named = {metric_name(key): value for key, value in values.items()}
        missing = [Metric(key, value, when, step) for key, value in named.items() if (key, step) not in self.held]
        self.client.log_batch(self.id, metrics=missing)


def metric_name(key: str) -> str:
    """A key in the letters that MLflow allows.

    >>> metric_name("terms/teacher.logits->student.logits")
    'terms/teacher.logits to student.logits'
    """
    return re.sub(r"[^\w\-./: ]", "_", key.replace("->", " to "))
