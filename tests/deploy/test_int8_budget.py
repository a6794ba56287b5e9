"""Eight bits within a budget: what is tried, in which order, what is refused; and a temperature baked in."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

import attar
from attar.data import eval_batches
from attar.deploy import Student, export_student, find_trained, int8_budget
from attar.deploy.quantisation_aware import ROUNDED, RoundedInputs, RoundedWeight, trained
from attar.deploy.temperature import fitted_temperature
from attar.errors import AttarError
from attar.experiments.exporting import with_validation
from attar.losses import KLDivergence, cross_entropy
from attar.models.copying import copied
from attar.models.graphs.onnx import to_onnx
from attar.models.graphs.quantise import quantised
from attar.recipe import read_recipe, to_yaml
from attar.report.exports import export_notes

pytest.importorskip("onnxruntime")


@pytest.fixture
def student(drawn_student):
    return drawn_student


def test_the_first_model_within_the_budget_is_kept_and_the_file_names_how(student, tmp_path):
    done = export_student(replace(student, within=100.0), tmp_path, ["int8"])
    (file,) = done.files
    facts = attar.deploy.formats.FORMATS["onnx-int8"].facts(tmp_path / file.file)
    assert facts["quantisation"].endswith("post-training (minimum and maximum)")
    assert done.within == 100
    assert "allowed to lose 100 points; made by: post-training (minimum and maximum)." in export_notes(done)
    assert json.loads(json.dumps(done.to_json()))["within"] == 100


def test_a_distribution_is_read_off_every_image_and_one_batch_is_held_at_a_time(student, monkeypatch):
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    clear, seen = calibrate.HistogramCalibrater.clear_collected_data, []

    def noted(self):
        seen.append([len(outputs[0]) for outputs in self.intermediate_outputs])
        clear(self)

    monkeypatch.setattr(calibrate.HistogramCalibrater, "clear_collected_data", noted)
    model, few = to_onnx(student.deployed, student.example), student.calibration.subset(torch.arange(20))
    quantised(model, student.of_images[0], few, "99.999th percentile")
    assert [batches for batches in seen if batches] == [[8], [8], [4]]


def test_post_training_comes_first_then_distillation_then_an_honest_no(student, tmp_path, monkeypatch):
    scores = iter([-1.0] * 6)
    for name in ("quantised", "to_onnx"):
        monkeypatch.setattr(int8_budget, name, lambda *given: None)
    monkeypatch.setattr(int8_budget, "trained", lambda net, train, few, epochs, imitation: iter([net] * epochs))
    monkeypatch.setattr(int8_budget, "score", lambda model, student, samples: next(scores))
    done = export_student(replace(student, within=1.0), tmp_path, ["int8"])
    (reason,) = done.failures.values()
    assert "not within 1 points of the student on 100 validation images" in reason
    for how in ("minimum and maximum) ", "99.999th percentile) ", "1 epoch of quanti", "4 epochs of quanti"):
        assert how in reason
    assert not [*tmp_path.iterdir()]


def test_eight_bits_that_no_runtime_runs_leave_the_other_files(student, tmp_path, monkeypatch):
    def refused(*given):
        raise RuntimeError("no kernel for this type")

    for name in ("quantised", "to_onnx"):
        monkeypatch.setattr(int8_budget, name, lambda *given: None)
    monkeypatch.setattr(int8_budget, "score", refused)
    done = export_student(replace(student, within=1.0), tmp_path, ["safetensors", "int8"])
    reason = "onnx-int8 does not run this network (no kernel for this type); leave onnx-int8 out"
    assert done.failures == {"onnx-int8": reason}
    assert [file.format for file in done.files] == ["safetensors"]


def test_what_validation_images_promise_is_held_on_the_test_set(student, tmp_path, monkeypatch):
    monkeypatch.setattr(int8_budget, "score", lambda model, student, samples: 1.0)
    held = replace(student, within=1.0)
    monkeypatch.setattr(Student, "score", property(lambda self: 2.0))
    done = export_student(held, tmp_path, ["int8"])
    assert "was within 1 points on the validation images, but loses" in done.failures["onnx-int8"]
    assert not [*tmp_path.iterdir()]


def test_distillation_brings_rounded_logits_nearer_to_the_floats(student):
    net = copied(student.net)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight[:, 0] *= 16  # large weights leave few levels for the others
        example = next(iter(eval_batches(student.train, 100))).images
        wanted = net(example).log_softmax(1)

    def distance(one):
        """KL(float || rounded)."""
        rounded, weights = RoundedInputs(one, student.calibration), copied(one).state_dict()
        with torch.no_grad():
            for layer in one.modules():
                if isinstance(layer, ROUNDED):
                    layer.weight.copy_(RoundedWeight()(layer.weight))
            found = float((wanted.exp() * (wanted - one(example).log_softmax(1))).sum(1).mean())
        one.load_state_dict(weights)
        rounded.remove()
        return found

    before, *_, after = map(distance, (net, *trained(net, student.train, student.calibration, 3, KLDivergence(1.0))))
    assert after < 0.7 * before


@pytest.mark.parametrize("label", [0, 1])
def test_too_few_images_fit_no_temperature(label):
    with pytest.raises(AttarError, match="3 validation images fit no temperature between"):
        fitted_temperature(torch.tensor([[4.0, 0.0]] * 3), torch.full((3,), label))


def test_the_temperature_has_the_least_nll_and_is_inside_the_graphs(run, tmp_path):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2000, 5, generator=generator)
    labels = torch.multinomial((logits / 2).softmax(1), 1, generator=generator).flatten()
    found = fitted_temperature(logits, labels)
    assert found == pytest.approx(2, rel=0.1)
    losses = [float(cross_entropy(logits.double() / (found * factor), labels)) for factor in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)
    plain = attar.export(run, ["onnx"], out=tmp_path / "plain")
    done = attar.export(run, ["onnx", "onnx-int8"], out=tmp_path / "even", temperature=True, within=50)
    assert not done.failures
    assert done.temperature != 1
    assert done.files[0].parity.score == plain.files[0].parity.score
    one, other = (attar.deploy.formats.FORMATS["onnx"].open(place.folder / "student.onnx") for place in (plain, done))
    images = torch.randn(2, 1, 8, 8, generator=generator)
    torch.testing.assert_close(one(images) / done.temperature, other(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"), [({"within": -1.0}, "within is -1.0; give the points"), ({"within": float("nan")}, "give the")]
)
def test_a_budget_is_a_number_of_points(run, tmp_path, keys, message):
    with pytest.raises(AttarError, match=message):
        attar.export(run, ["onnx-int8"], out=tmp_path, **keys)


@pytest.mark.parametrize(
    ("formats", "keys", "message"),
    [
        (["onnx"], {"within": 1.0}, "--within changes nothing in onnx; name onnx-int8 too, or leave --within out"),
        (["safetensors"], {"temperature": True}, "--temperature changes nothing in safetensors; name onnx too"),
        (["safetensors"], {"bake": True}, "--bake changes nothing in safetensors; name onnx too, or leave --bake out"),
    ],
)
def test_a_flag_that_changes_no_file_is_refused(run, tmp_path, formats, keys, message):
    with pytest.raises(AttarError, match=message):
        attar.export(run, formats, out=tmp_path, **keys)
    assert not [*tmp_path.iterdir()]


def test_rounded_outputs_imitate_the_float_ones_by_the_loss_of_the_task(student, monkeypatch):
    given = []
    monkeypatch.setattr(int8_budget, "quantised", lambda *arguments: None)
    monkeypatch.setattr(int8_budget, "trained", lambda *arguments: iter(given.append(arguments) or ()))
    logits, shifted = torch.zeros(2, 10), torch.full((2, 10), 3.0)
    for task, same in (("classification", True), ("multilabel", False)):
        list(int8_budget.candidates(replace(student, task=attar.create_task(task)), lambda one: None))
        assert (float(given[-1][-1](shifted, logits)) == pytest.approx(0, abs=1e-6)) == same


def validation(path):
    whole = attar.load_data("digits", val_fraction=0)
    return with_validation(find_trained(path), whole).val.images


def test_validation_images_are_those_that_the_run_kept_apart(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    recipe = read_recipe(folder / "recipe.yaml")
    for seed in (None, 7):
        data = replace(recipe.data, val_fraction=0.2, split_seed=seed)
        (folder / "recipe.yaml").write_text(to_yaml(replace(recipe, data=data)))
        kept = attar.load_data("digits", val_fraction=0.2, seed=recipe.seed if seed is None else seed).val.images
        for place in (folder, folder / "teacher", folder / "teacher" / "student.safetensors"):
            assert torch.equal(validation(place), kept)


def test_without_its_recipe_nobody_knows_the_validation_images(run, tmp_path):
    for name in ("student.safetensors", "student.json"):
        shutil.copy(run / name, tmp_path / name)
    for place in (tmp_path, tmp_path / "student.safetensors"):
        with pytest.raises(AttarError, match=r"no recipe\.yaml of it is in .* or above; give the run's folder"):
            validation(place)
    other = read_recipe(run / "recipe.yaml")
    (tmp_path / "recipe.yaml").write_text(to_yaml(replace(other, data=replace(other.data, name="cifar10"))))
    with pytest.raises(AttarError, match=r"no recipe\.yaml of it"):
        validation(tmp_path)
