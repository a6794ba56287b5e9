"""W&B, MLflow and trackio, each on this machine alone: no network, no server, no account."""

import time

import pytest

from attar.track import Epoch, tracker_info

RESULTS = {"student/top1": 0.5}
EPOCHS = [Epoch(n, {"loss": 1.0 / n, "terms/labels->student.logits": float(n)}, 1.7e9 + n) for n in (1, 2)]


def process(name, subject, logged, epochs, results):
    """What one process tells a tracker; it returns the epoch that was held."""
    tracker = tracker_info(name).make()
    held = tracker.start(subject, logged)
    for epoch in epochs:
        if epoch.number > held:
            tracker.epoch(epoch)
    tracker.finish(results)
    return held


def test_wandb_offline(subject, monkeypatch):
    pytest.importorskip("wandb", reason="needs attar[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for key in ("WANDB_DIR", "WANDB_PROJECT", "WANDB_RUN_ID"):
        monkeypatch.delenv(key, raising=False)
    assert process("wandb", subject, 0, EPOCHS[:1], None) == 0
    # Offline nobody but the notes knows what was logged.
    assert process("wandb", subject, 1, EPOCHS, RESULTS) == 1
    files = sorted(subject.folder.glob(f"wandb/offline-run-*/run-{subject.id}.wandb"))
    assert files
    kept = b"".join(file.read_bytes() for file in files)
    assert all(word in kept for word in (b"resnet8", b"optim", b"terms/labels->student.logits", b"student/top1"))


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """A client of a database in a temporary folder."""
    pytest.importorskip("mlflow", reason="needs attar[mlflow]")
    pytest.importorskip("sqlalchemy", reason="mlflow's database needs sqlalchemy")
    import mlflow

    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return mlflow.MlflowClient()


# MLflow and alembic warn of their own future.
@pytest.mark.filterwarnings("ignore")
def test_mlflow_writes_no_point_twice(subject, mlflow):
    process("mlflow", subject, 0, EPOCHS[:1], None)
    (run,) = mlflow.search_runs([mlflow.get_experiment_by_name("attar").experiment_id])
    assert run.info.status == "KILLED"
    assert run.data.params["student.name"] == "resnet8"
    process("mlflow", subject, 0, EPOCHS, RESULTS)
    process("mlflow", subject, 2, EPOCHS, RESULTS)
    (run,) = mlflow.search_runs([run.info.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "kd-digits/student"
    points = {key: mlflow.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    assert [(p.step, p.value, p.timestamp) for p in points["loss"]] == [
        (1, 1.0, 1_700_000_001_000),
        (2, 0.5, 1_700_000_002_000),
    ]
    assert [p.value for p in points["terms/labels to student.logits"]] == [1.0, 2.0]
    assert [(p.step, p.value) for p in points["results/student/top1"]] == [(2, 0.5)]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_without_its_server_raises_instead_of_waiting(subject, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs attar[mlflow]")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for key in ("MAX_RETRIES", "TIMEOUT"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{key}", raising=False)
    began = time.monotonic()
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"127\.0\.0\.1"):
        tracker_info("mlflow").make().start(subject, 0)
    assert time.monotonic() - began < 30


@pytest.mark.filterwarnings("ignore")
def test_trackio_in_a_folder(subject, tmp_path, monkeypatch, capsys):
    pytest.importorskip("trackio", reason="needs attar[trackio]")
    from trackio import sqlite_storage

    monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path)
    for key in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(key, raising=False)
    assert process("trackio", subject, 0, EPOCHS[:1], None) == 0
    assert process("trackio", subject, 1, EPOCHS, RESULTS) == 1
    assert process("trackio", subject, 2, EPOCHS, RESULTS) == 3
    name = "kd-digits/student 01234567"
    logs = sqlite_storage.SQLiteStorage.get_logs("attar", name)
    assert [(log["step"], log.get("loss"), log.get("results/student/top1")) for log in logs] == [
        (1, 1.0, None),
        (2, 0.5, None),
        (3, None, 0.5),
    ]
    config = sqlite_storage.SQLiteStorage.get_run_config("attar", name)
    assert (config["student.name"], config["_Group"]) == ("resnet8", "kd-digits")
    assert (tmp_path / "attar.db").exists()
    assert not capsys.readouterr().out
