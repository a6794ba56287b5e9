"""The command line: the main job, and every mistake as one line, status 2 and nothing written."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attar import cli
from attar.methods import method_info
from attar.recipe import describe

TINY = ["student=resnet8", "data=digits", "data.train_size=60", "batch_size=20", "epochs=1", "precision=float32"]
TAUGHT = ["teacher=resnet8", *TINY, "method=kd"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "kd"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["attar", "distill", *TAUGHT, f"out={folder}"])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0
    return folder


def files(folder: Path) -> list[Path]:
    """What a command could have written; the bytecode of a module that it imported is Python's."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


def test_a_run_writes_everything(finished):
    names = {str(file.relative_to(finished)) for file in finished.rglob("*") if file.is_file()}
    assert names >= {
        "recipe.yaml", "environment.json", "metrics.jsonl", "checkpoint.pt", "student.safetensors", "student.json",
        "scores.json", "results.json", "report.html", "graph.svg", "alone/student.safetensors", "alone/scores.json",
        "teacher/student.safetensors", "teacher/metrics.jsonl",
    }  # fmt: skip
    assert not [name for name in names if name.endswith(".tmp")]
    results = json.loads((finished / "results.json").read_text())
    assert set(results["runs"][0]) == {"alone", "student"}
    assert results["runs"][0]["student"]["scores"]["count"] == 898
    report = (finished / "report.html").read_text()
    assert "Who teaches whom" in report
    assert "resnet8 alone" in report


def test_evaluate_repeats_the_scores_of_the_run(finished, attar):
    status, out, _ = attar("evaluate", finished)
    scores = json.loads((finished / "results.json").read_text())["runs"][0]["student"]["scores"]
    assert status == 0
    assert f"{100 * scores['top1']:.2f}" in out.splitlines()[4]
    assert f"{scores['nll']:.3f}" in out.splitlines()[4]
    assert "recall %" in out


def test_evaluate_against_a_teacher_and_with_keys(finished, attar):
    teacher = finished / "teacher" / "student.safetensors"
    status, out, _ = attar("evaluate", finished / "student.safetensors", "image_size=8", "--teacher", teacher)
    assert status == 0
    assert "agrees %" in out


def test_resume_of_a_finished_run_only_prints(finished, attar):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*.pt")}
    status, out, _ = attar("resume", finished)
    assert status == 0
    assert "resnet8 with kd" in out
    assert before == {file: file.stat().st_mtime_ns for file in finished.rglob("*.pt")}


def test_two_seeds_that_reuse_nothing_make_a_table_with_an_interval(attar, tmp_path):
    status, out, err = attar("distill", *TAUGHT, "method=dml", "teacher=", "seeds=2", "out=two")
    assert status == 0, err
    assert "mean ± std of 2 seeds" in out
    assert "paired over 2 seeds" in " ".join(out.split())
    assert (tmp_path / "two" / "seed1" / "peer1.safetensors").exists()


def test_the_baseline_of_an_earlier_run_is_its_student_alone(finished, attar, tmp_path):
    status, _, err = attar("distill", *TAUGHT, f"alone={finished}", "method=rkd", "out=rkd")
    assert status == 0, err
    earlier = json.loads((finished / "results.json").read_text())["runs"][0]
    now = json.loads((tmp_path / "rkd" / "results.json").read_text())["runs"][0]
    assert now["alone"]["scores"] == earlier["alone"]["scores"]
    assert not (tmp_path / "rkd" / "alone").exists()


def test_a_baseline_of_attar_train_can_be_reused(attar, tmp_path):
    assert attar("train", *TINY, "out=plain")[0] == 0
    status, _, err = attar("distill", "method=dml", *TINY, "alone=plain", "out=dml")
    assert status == 0, err
    plain, dml = (json.loads((tmp_path / name / "results.json").read_text())["runs"][0] for name in ("plain", "dml"))
    assert dml["alone"]["scores"] == plain["student"]["scores"]


PLUGIN = '''
from attar import Offline, Transfer, register
from attar.losses import KLDivergence
@register("mine_{n}", title="My own", paper="", year=2024, family="offline")
class Mine(Offline):
    """Mine."""
    def transfers(self):
        yield Transfer("teacher.logits", "student.logits", KLDivergence())
'''


def test_a_method_of_ones_own_from_a_file(attar, tmp_path):
    (tmp_path / "json.py").write_text(PLUGIN.format(n=1))
    status, out, _ = attar("methods", "mine_1", "--import", "json.py")
    assert status == 0
    assert "teacher -->" in out
    assert sys.modules["json"] is json
    status, out, err = attar("distill", *TAUGHT, "method=mine_1", "alone=skip", "out=mine")
    assert status == 0, err
    assert "resnet8 with mine_1" in out


def test_methods_lists_and_explains(attar):
    status, out, _ = attar("methods", "*kd*")
    assert status == 0
    assert " dkd" in "\n" + out.replace("\n", "\n ")
    assert "dml" not in out
    status, out, _ = attar("methods", "kd")
    assert status == 0
    assert "arXiv:1503.02531" in out
    assert "method.temperature=4.0" in out
    assert 'teacher -->|"0.9 x KLDivergence logits"| student' in out


def test_methods_are_grouped_and_joined(attar):
    status, out, _ = attar("methods", "r*d")
    assert status == 0
    assert out.index("offline (") < out.index("rkd") < out.index("self (1)") < out.index("rsd")
    status, out, _ = attar("methods", "kd+at+rkd")
    assert status == 0
    assert "method.at.weight=1000.0" in out
    assert 'teacher -->|"25 x RKDDistance pooled"| student' in out


def test_methods_for_two_networks(attar, monkeypatch):
    monkeypatch.setattr("attar.methods.list_methods", lambda *_: ["kd", "dml", "iakd", "skt"])
    status, out, _ = attar("methods", "--for", "teacher=vgg13", "student=resnet8", "classes=10")
    assert status == 0
    runs, _, refused = out.partition("not for this pair (2)")
    assert "kd" in runs
    assert "online (1)" in runs
    refused = " ".join(refused.split())
    assert "the teacher has 4 stages" in refused
    assert f"iakd, skt: on {method_info('iakd').runs_on}" in refused


@pytest.mark.parametrize(
    ("command", "refused"), [("distill", ()), ("train", ("teacher.", "chain", "method.", "alone"))]
)
def test_help_has_every_key_that_the_command_takes(attar, command, refused, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = attar(command, "--help")
    assert status == 0
    rows = {line[1:].split(" ")[0] for line in out.splitlines()}
    assert [key for key, _, _ in describe() if (key in rows) == key.startswith(refused)] == []


def test_help_of_keys_is_whole_in_80_columns(attar, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    table = attar("distill", "--help")[1].partition("Keys of a recipe")[2]
    assert "…" not in table
    assert "".join(table.split()).endswith("runs/METHOD-TEACHER-STUDENT-DATA.")


def test_help_of_a_suite_keeps_its_brackets(attar, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "methods: [kd, {name: dkd, beta: [2, 8], optim: {lr: 0.05}}], pairs:" in attar("bench", "--help")[1]


def test_export_predict_and_profile(finished, attar, tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = attar("export", finished, "onnx", "safetensors", "out=files", "license=mit", "calibration=20")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[4:6]] == ["safetensors", "onnx"]
    assert out.endswith("Files and model card: files\n")
    assert "license: mit" in (tmp_path / "files" / "README.md").read_text()
    for number in range(2):
        image.new("L", (8, 8), 100 * number).save(tmp_path / f"{number}.png")
    status, out, err = attar("predict", "files", "0.png", "none.png", "1.png", "--top", "2")
    assert status == cli.MISTAKE
    assert err == "attar: none.png does not exist\n"
    assert [line.split()[0] for line in out.splitlines()] == ["0.png", "1.png"]
    assert all(len(line.split()) == 5 for line in out.splitlines())
    status, out, _ = attar("predict", finished, "0.png", "1.png", "--json")
    assert status == 0
    assert [len(entry["labels"]) for entry in json.loads(out)] == [3, 3]
    status, out, _ = attar("profile", "resnet8", finished, "--batch", "2", "--classes", "10", "--image-size", "8")
    assert status == 0
    assert "77,754" in out
    assert "ms, 2" in out


def test_a_format_that_fails_is_named_and_the_others_are_written(finished, attar, tmp_path, monkeypatch):
    from attar.deploy.formats import FORMATS

    wrong = {"write": lambda student, path: path.touch(), "open": lambda path: lambda images: images.flatten(1)[:, :10]}
    monkeypatch.setitem(FORMATS._records, "pt2", dataclasses.replace(FORMATS["pt2"], **wrong))
    status, out, err = attar("export", finished, "pt2", "safetensors", "out=files")
    assert status == cli.MISTAKE
    assert err.startswith("attar: pt2 differs from the student: an output by ")
    assert err.count("\n") == 1
    assert "safetensors" in out
    names = {file.name for file in (tmp_path / "files").iterdir()}
    assert names == {"student.safetensors", "student.json", "export.json", "export.md", "README.md"}
    assert "pt2 differs" in (tmp_path / "files" / "export.md").read_text()


def test_an_interrupted_job_names_the_folder_to_resume(attar, tmp_path, monkeypatch):
    from attar.experiments import training as run
    from attar.train import loop

    def stop(*arguments):
        raise loop.Stopped(str(arguments[5].folder))

    monkeypatch.setattr(run, "fit", stop)
    status, out, _ = attar("distill", *TAUGHT, "out=broken")
    assert status == cli.INTERRUPTED
    assert out.strip().endswith("attar resume broken")


def test_an_interrupted_job_goes_on(attar, monkeypatch, tmp_path):
    from attar.experiments import training as run

    kept, calls = run.fit, []

    def twice(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return kept(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(run, "fit", twice)
        assert attar("distill", *TAUGHT, f"out={tmp_path / 'it'}")[0] == cli.INTERRUPTED
    status, out, err = attar("resume", tmp_path / "it")
    assert status == 0, err
    assert "resnet8 with kd" in out


@pytest.fixture
def bad(tmp_path):
    """Files that are wrong, by name."""
    (tmp_path / "corrupt.pth").write_bytes(b"not weights")
    from attar.models import create_model

    for name, net, classes in (("other", "resnet14", 10), ("classes", "resnet8", 7)):
        torch.save(
            create_model(net, num_classes=classes, in_channels=1, image_size=8).state_dict(), tmp_path / f"{name}.pth"
        )
    (tmp_path / "file").write_text("")
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "one" / "cat").mkdir(parents=True)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "x.png").write_bytes(b"no image")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("epochs: 1\n")
    (tmp_path / "broken.py").write_text("x = 1\nx.y\n")
    (tmp_path / "syntax.py").write_text("def (:\n")
    return tmp_path


MISTAKES = {
    "unknown method": (["method=kdd"], "unknown method 'kdd'; did you mean 'kd'?"),
    "unknown option": (["method.temprature=3"], "did you mean 'temperature'?"),
    "option of a wrong type": (["method.temperature=hot"], "method 'kd': temperature must be float, got 'hot'"),
    "unknown network": (["student=resnet9"], "unknown network 'resnet9'"),
    "network option of a wrong type": (["student.options.widths=wide"], "network 'resnet8'"),
    "network option that the data give": (
        ["student.options.num_classes=3"],
        "num_classes of network 'resnet8' follows",
    ),
    "unknown data": (["data=digit"], "unknown data set or folder 'digit'; did you mean 'digits'?"),
    "data option of a wrong type": (["data.image_size=big"], "data: image_size must be"),
    "own data option of a wrong type": (["data.test_fraction=half"], "test_fraction must be float"),
    "unknown key": (["epoch=3"], "unknown key 'epoch'; did you mean 'epochs'?"),
    "wrong type": (["epochs=many"], "epochs: expected a whole number, got 'many'"),
    "half a number": (["epochs=1.5"], "epochs: expected a whole number, got '1.5'"),
    "no value": (["optim.lr="], "optim.lr: expected a number, got nothing"),
    "neither true nor false": (["optim.nesterov=maybe"], "optim.nesterov: expected true or false, got 'maybe'"),
    "no list": (["optim.milestones=3"], "optim.milestones: expected a list, such as [0.5,0.75]"),
    "an option with dashes": (["--epochs", "3"], "keys are written without dashes, such as epochs=10 (attar distill"),
    "a name in capitals": (["method=KD"], "unknown method 'KD'; did you mean 'kd'?"),
    "a folder and a root": (["data=photos", "data.root=one"], "data=photos is a folder already; leave data.root=one"),
    "unknown tracker": (["track=tensorbord"], "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
    "missing weights": (["teacher.weights=none.pth"], "no weights at none.pth"),
    "corrupt weights": (["teacher.weights=corrupt.pth"], "cannot read corrupt.pth as weights"),
    "another architecture": (["teacher.weights=other.pth"], "other.pth is not of this ResNet"),
    "another number of classes": (["teacher.weights=classes.pth"], "is of 7 classes in classes.pth"),
    "weights for too few teachers": (["teacher=resnet8,resnet8", "teacher.weights=other.pth"], "2 networks but"),
    "batch larger than the set": (["batch_size=1000"], "batch_size must be 1 to"),
    "more images than there are": (["data.train_size=5000"], "train_size must be"),
    "a run that exists": (["out=run"], "run holds a run already; `attar resume run`"),
    "out that is a file": (["out=file"], "out=file is a file"),
    "out below a file": (["out=file/run"], "Not a directory"),
    "one class": (["data=folder", "data.root=one"], "one has 0 class folders with images"),
    "unreadable image": (["data=folder", "data.root=photos"], "cannot read image photos/cat/x.png"),
    "no folder": (["data=folder", "data.root=nowhere"], "nowhere"),
    "no baseline": (["alone=nowhere"], "alone=nowhere: no finished run of seed 0 there"),
    "no teacher": (["teacher="], "method 'kd' needs a teacher; give teacher=NAME"),
    "no student": (["student="], "no student is named"),
    "no device": (["device=gpu"], "device 'gpu' is not usable here"),
    "nothing to accumulate": (["optim.accumulate=0"], "optim.accumulate must be above 0"),
    "no key": (["epochs"], "expected key=value, got 'epochs'"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_line_status_2_and_no_folder(attar, bad, kind):
    changes, message = MISTAKES[kind]
    before = files(bad)
    status, out, err = attar("distill", *TAUGHT, *changes)
    assert status == cli.MISTAKE
    assert err.count("\n") == 1, err
    assert err.startswith("attar: ")
    assert message in err
    assert not out
    assert files(bad) == before


SEARCH = ["search", "teacher=resnet14", "teacher.weights=other.pth", "data=digits"]
OTHER_MISTAKES = {
    "train with a teacher": (["train", *TAUGHT], "attar train has no teacher"),
    "train with a method": (["train", "student=resnet8", "method=kd"], "leave method=kd out, or use attar distill"),
    "resume nothing": (["resume", "nowhere"], "nowhere holds no run (no recipe.yaml)"),
    "evaluate nothing": (["evaluate", "nowhere"], "nowhere does not exist; give a run's folder"),
    "evaluate no network": (["evaluate", "list.yaml"], "list.yaml is no network: give a run's folder"),
    "evaluate with nothing as teacher": (["evaluate", "run", "--teacher", "none"], "none does not exist"),
    "evaluate on no device": (["evaluate", "run", "--device", "gpu"], "device 'gpu' is not usable here"),
    "evaluate on two sets": (["evaluate", "run", "photos", "others"], "give one data set, got photos, others"),
    "export nothing": (["export", "nowhere"], "nowhere does not exist; give a run's folder"),
    "export an unfinished run": (["export", "run"], "the run in run is not finished; `attar resume run`"),
    "export to nothing known": (["export", "run", "onxx"], "unknown format 'onxx'; did you mean 'onnx'?"),
    "export with an unknown key": (["export", "run", "ouut=x"], "unknown key 'ouut'; did you mean 'out'?"),
    "export with half an image": (["export", "run", "calibration=0.5"], "calibration must be a number of images"),
    "predict with nothing": (["predict", "nowhere", "file"], "nowhere does not exist; give a run's folder"),
    "predict without images": (["predict", "nowhere"], "Missing argument"),
    "profile nothing": (["profile", "resnet21"], "unknown network 'resnet21'"),
    "profile too small": (["profile", "vgg8", "--image-size", "4"], "vgg8 needs images of"),
    "for no student": (["methods", "--for", "teacher=vgg13"], "--for: give teacher=NAME student=NAME"),
    "for an unknown key": (["methods", "--for", "techer=vgg13"], "unknown key 'techer'; did you mean 'teacher'"),
    "no such methods": (["methods", "nothing*"], "no method matches 'nothing*'; `attar methods` lists all"),
    "nothing to list": (
        ["list", "networks", "no*"],
        "no networks match 'no*'; `attar list networks` shows all; those of timm and torchvision: \"timm/no*\", "
        '"torchvision/no*"',
    ),
    "a search of nothing fast": ([*SEARCH, "latency=5"], "it has no unit"),
    "a search of no network": ([*SEARCH, "among=no*"], "no network matches 'no*'"),
    "a search of no candidates": ([*SEARCH, "candidates=0"], "candidates=0: give 1 or more"),
    "a suite that is no file": (["bench", "none.yaml"], "suite 'none.yaml' is no file; `attar bench --help` shows one"),
    "a key among options": (["suggest", "resnet14", "latency=5ms"], "options are written with dashes, such as --top 3"),
    "two methods": (["methods", "kd", "at"], "join them with +"),
    "explain nothing": (["methods", "skod"], "unknown method 'skod'; did you mean"),
    "recipe that is no file": (["distill", "none.yaml"], "none.yaml"),
    "recipe that is no YAML": (["distill", "list.yaml"], "list.yaml"),
    "import of nothing": (["methods", "--import", "none.py"], "--import none.py: no such Python file"),
    "import that fails": (["methods", "--import", "broken.py"], "--import broken.py: line 2: AttributeError"),
    "import that is no Python": (["methods", "--import", "syntax.py"], "--import syntax.py: line 1: SyntaxError"),
    "unknown command": (["distil"], "distil"),
    "unknown option": (["methods", "--nothing"], "--nothing"),
    "too few arguments": (["resume"], "Missing argument 'run' (attar resume --help)"),
}


@pytest.mark.parametrize("kind", OTHER_MISTAKES)
def test_mistakes_of_other_commands(attar, bad, kind):
    arguments, message = OTHER_MISTAKES[kind]
    before = files(bad)
    status, _, err = attar(*arguments)
    assert status == cli.MISTAKE
    assert err.count("\n") == 1, err
    assert message in err
    assert files(bad) == before


def test_evaluate_on_other_classes(finished, attar, tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / split / name / "x.png")
    status, _, err = attar("evaluate", finished, "name=folder", "root=photos", "image_size=8", "mean=null", "std=null")
    assert status == cli.MISTAKE
    assert "has 10 classes (digits), folder has 2 other ones" in err


def test_a_bug_of_ours_is_not_hidden(attar, monkeypatch):
    monkeypatch.setattr("attar.models.create.MODELS", None)
    with pytest.raises((AttributeError, TypeError)):
        attar("distill", *TAUGHT)


def test_the_command_is_installed():
    attar = Path(sys.executable).with_name("attar")
    done = subprocess.run([attar, "methods", "kdd"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "attar: unknown method 'kdd'; did you mean 'kd'?\n")
