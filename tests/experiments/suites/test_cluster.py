"""Suites as jobs of a cluster: submitit's local executor, and what a preemption does."""

import io
import json
import os
import signal

import pytest
from rich.console import Console

from attar.errors import AttarError, Stopped
from attar.experiments.suites.bench import read_suite
from attar.experiments.suites.cluster import PartOfSuite, Submission, requeued_when_preempted, submit
from attar.safety.signals import stop_requests

SUITE = """
methods: [supervised]
pairs: [{student: resnet8}]
seeds: 2
recipe: {data: {name: digits, train_size: 60}, epochs: EPOCHS, batch_size: 20, precision: float32}
"""


@pytest.fixture
def handlers():
    """The handlers of signals are as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def work(*signals):
    """A loop as training has it: it sees a request to stop after its step."""
    with stop_requests() as stop:
        for number in signals:
            os.kill(os.getpid(), number)
        if stop.requested:
            raise Stopped


def test_a_preempted_job_saves_before_submitit_requeues_it(handlers):
    calls = []
    signal.signal(signal.SIGUSR2, lambda number, frame: calls.append("requeued"))
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append("bypassed"))

    def training():
        with requeued_when_preempted():
            try:
                work(signal.SIGUSR2, signal.SIGUSR2)
            finally:
                calls.append("saved")

    with pytest.raises(Stopped):
        training()
    assert calls == ["saved", "requeued"]


def test_sigterm_ends_a_job_that_submitit_would_let_go_on(handlers):
    calls = []
    signal.signal(signal.SIGUSR2, lambda number, frame: calls.append("requeued"))
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append("bypassed"))
    with pytest.raises(Stopped), requeued_when_preempted():
        work(signal.SIGTERM)
    assert calls == []
    with requeued_when_preempted():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    assert calls == ["bypassed"]


def test_what_is_submitted_and_what_is_left():
    found, rest = Submission.of(["slurm.timeout_min=60", "submit=3", "epochs=2", "slurm.cluster=local"])
    assert (found, rest) == (Submission(3, "local", {"timeout_min": 60}), ["epochs=2"])
    assert Submission.of(["epochs=2"]) == (None, ["epochs=2"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["submit=0"], "a whole number from 1"),
        (["slurm.partition=a"], "need submit=N"),
        (["submit=2", "slurm.cluster=x"], "slurm or local"),
    ],
)
def test_mistakes_of_a_submission_are_one_line(given, message):
    with pytest.raises(AttarError, match=message):
        Submission.of(given)


def test_without_slurm_nothing_is_started(submitted, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AttarError, match=r"no Slurm here \(no srun\); give slurm\.cluster=local"):
        submitted(1, 2, cluster="slurm")


def test_a_part_of_a_suite_goes_on_as_it_is():
    pytest.importorskip("submitit")
    part = PartOfSuite("suite.yaml", ("share=1/2",))
    assert part.checkpoint().function == part


@pytest.fixture
def submitted(tmp_path):
    """Submits a suite to processes of this machine."""
    pytest.importorskip("submitit")

    def run(epochs, count, cluster="local", **parameters):
        suite = tmp_path / "suite.yaml"
        suite.write_text(SUITE.replace("EPOCHS", str(epochs)))
        overrides = [f"out={tmp_path / 'out'}", "jobs=1"]
        bench = read_suite(suite, overrides, Console(file=io.StringIO()))
        return bench, submit(bench, Submission(count, cluster, parameters), suite, overrides)

    return run


def test_a_parameter_that_the_scheduler_does_not_have_is_one_line(submitted):
    with pytest.raises(AttarError, match=r"submitit refuses: .*no_such"):
        submitted(1, 1, no_such=1)


@pytest.mark.slow
def test_each_job_does_its_part_and_the_command_pools_them(submitted):
    bench, jobs = submitted(1, 2)
    for job in jobs:
        job.result()
    assert all((bench.folder / cell.folder / "results.json").exists() for cell in bench.cells)
    assert bench.run()[0].rows[0][:2] == ["supervised", "2"]
    assert "[1/1] supervised, resnet8, seed 0" in jobs[0].stdout()


@pytest.mark.slow
def test_a_preempted_job_is_requeued_and_ends_as_if_nothing_had_happened(submitted, tmp_path, wait_for):
    bench, (job,) = submitted(60, 1)
    first = bench.folder / bench.cells[0].folder
    wait_for(lambda: (first / "checkpoint.pt").exists())
    # The job's own process, to which Slurm sends the signal.
    os.kill(json.loads((first / ".lock").read_text())["pid"], signal.SIGUSR2)
    job.result()
    assert "going on at epoch" in (first / "log.txt").read_text()
    assert "Requeued job" in job.stdout()
    other = read_suite(tmp_path / "suite.yaml", [f"out={tmp_path / 'other'}", "jobs=1"], Console(file=io.StringIO()))
    other.run()
    for cell in bench.cells:
        for name in ("student.safetensors", "metrics.jsonl"):
            one, two = (place / cell.folder / name for place in (bench.folder, other.folder))
            assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_a_job_that_gets_sigterm_saves_and_ends(submitted, wait_for, is_free):
    bench, (job,) = submitted(500, 1)
    first = bench.folder / bench.cells[0].folder
    wait_for(lambda: (first / "checkpoint.pt").exists())
    job._process.send_signal(signal.SIGTERM)
    wait_for(lambda: job.done())
    assert "Stopped" in job.stderr()
    wait_for(lambda: is_free(first / ".lock"))
    assert not (first / "results.json").exists()
    assert job.exception() is not None
