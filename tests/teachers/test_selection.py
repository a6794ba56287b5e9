"""A fast teacher is used where it says the same, and nowhere else."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attar.accel.engine_spec import INT8, EngineSpec
from attar.accel.runtime import Runtime
from attar.batch import Batch
from attar.data import eval_batches, load_data
from attar.errors import AttarError
from attar.knowledge import Output
from attar.methods import create_method
from attar.models import Plain, create_model
from attar.teachers import selection
from attar.teachers.engines import Folded
from attar.teachers.selection import Agreement, Engines, agreement, choose_engines
from attar.teachers.usage import ignores_logits, teacher_usage

FLOAT = Runtime(torch.device("cpu"), "float32", "")
HALF = Runtime(torch.device("cpu"), "bfloat16", "")


def net(name="resnet8"):
    return create_model(name, num_classes=10, in_channels=1, image_size=8)


def method(name="kd", **options):
    torch.manual_seed(0)
    return create_method(name, teacher=net("resnet14"), student=net(), image_shape=(1, 8, 8), **options)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits").train


def batches(count=3):
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randn(16, 1, 8, 8, generator=generator) for _ in range(count)]
    return [Batch(images, torch.arange(16) % 10) for images in draws]


def choose(one, runtime, precision="auto", digits=None, passes=0):
    specs, lines = choose_engines(one, batches(), runtime, precision, Engines(digits), passes)
    return tuple(map(str, specs)), lines


@pytest.fixture
def fast(monkeypatch):
    """Folded engines always win the race; what is tested is not the machine."""
    monkeypatch.setattr(selection, "seconds", lambda engine, *_: 2.0 if isinstance(engine, Plain) else 1.0)


@pytest.mark.parametrize(("runtime", "expected"), [(FLOAT, "folded float32"), (HALF, "folded bfloat16")])
def test_the_faster_engine_that_agrees_is_taken(fast, runtime, expected):
    names, lines = choose(method(), runtime)
    assert names == (expected,)
    assert f"computes {expected}" in lines[0]
    assert "2.00 times the speed" in lines[0]
    assert "same class for" in lines[0]


class Named(nn.Module):
    """A network whose inputs have names, one of which it leaves alone."""

    def __init__(self):
        super().__init__()
        self.net = create_model("resnet8", num_classes=10, in_channels=1, image_size=8)

    def forward(self, pixels, mask):
        return self.net(pixels)


def test_rows_are_counted_whatever_the_inputs_are(fast):
    """The tensors of a dict are not its rows."""
    one = create_method("kd", teacher=Named(), student=Named())
    named = [replace(batch, inputs={"pixels": batch.inputs, "mask": batch.labels}) for batch in batches()]
    lines = choose_engines(one, named, FLOAT, "auto", Engines(None), 0)[1]
    assert f"tried on {sum(map(len, named))} samples" in lines[0]


@pytest.mark.parametrize("times", [0.04, 0.95])
def test_an_engine_that_is_slower_than_the_network_is_not_used(monkeypatch, times):
    monkeypatch.setattr(selection, "seconds", lambda engine, *_: 1.0 if isinstance(engine, Plain) else 1.0 / times)
    names, lines = choose(method(), FLOAT)
    assert names == ("plain",)
    assert f"folded float32: {times:.2f} times the speed" in lines[0]
    assert lines[0].endswith("nats apart (not used: not faster)")
    assert choose(method(), FLOAT, "float32")[0] == ("folded float32",)  # as somebody asked for


def test_a_network_that_was_slowed_for_a_moment_is_timed_again(monkeypatch):
    took = iter([1.0, 2.0, 1.0, 0.5])  # the network, its folded twin on a busy machine, both again
    monkeypatch.setattr(selection, "seconds", lambda *_: next(took))
    names, lines = choose(method(), FLOAT)
    assert names == ("folded float32",)
    assert "2.00 times the speed" in lines[0]


def test_an_engine_that_was_chosen_before_is_compared_and_not_timed(monkeypatch):
    monkeypatch.setattr(selection, "seconds", lambda *_: pytest.fail("timed"))
    asked = []

    def once(what, of, choose):
        asked.append((what, of))
        return EngineSpec("folded", "float32", cut=True).to_json()

    arguments = (batches(), FLOAT, "auto", Engines(None), 0, once)
    specs, lines = choose_engines(method(), *arguments)
    assert (specs, asked) == ((EngineSpec("folded", "float32"),), [("engine 1", "taps none")])
    assert lines[0].startswith("teacher 1 computes folded float32, chosen before: same class for 100.0 %")
    monkeypatch.setattr(selection, "NATS", -1.0)
    assert choose_engines(method(), *arguments)[0] == (EngineSpec("plain"),)


@pytest.mark.parametrize(("took", "expected"), [(1.6, "int8"), (1.8, "folded bfloat16")])
def test_eight_bits_must_be_clearly_faster(monkeypatch, took, expected):
    def make(self, module, spec):
        engine = Plain(module)
        engine.name = str(spec)
        return engine

    monkeypatch.setattr(Engines, "make", make)
    monkeypatch.setattr(selection, "LABELS", 0.0)  # untrained networks waver between classes
    monkeypatch.setattr(
        selection, "seconds", lambda engine, *_: {"int8": took, "plain": 4.0}.get(str(engine.name), 2.0)
    )
    assert choose(method(), HALF, passes=10**12)[0] == (expected,)


@pytest.mark.parametrize("limit", ["LABELS", "NATS"])
def test_one_that_disagrees_is_not(fast, monkeypatch, limit):
    monkeypatch.setattr(selection, limit, 1.1 if limit == "LABELS" else -1.0)
    names, lines = choose(method(), FLOAT)
    assert names == ("plain",)
    assert "not used: at least" in lines[0]


def test_a_tap_that_folding_changes_keeps_the_network_itself(fast):
    # What a convolution gives is not what its folded twin gives: the norm is inside.
    class Net(nn.Sequential):
        pass

    norm = nn.BatchNorm2d(4)
    norm.running_mean.fill_(3.0)
    teacher = Net(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(144, 10))
    one = create_method("kd", teacher=teacher, student=net())
    one.teacher.request("0")
    names, lines = choose(one, FLOAT)
    assert names == ("plain",)
    assert "features within" in lines[0]


def test_int8_teaches_where_quantising_pays(fast, digits):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    one = method()
    assert choose(one, HALF, digits=digits, passes=10)[0] == ("folded bfloat16",)
    engines = Engines(digits)
    one.to(memory_format=torch.channels_last)  # as in training; exported like this, the weights would be misread
    eight = engines.make(one.teacher.module, INT8)
    images = torch.randn(5, 1, 8, 8)
    output, true = eight(images).logits, one.teacher(images).logits
    assert (output - true).norm() < 0.2 * true.norm()
    first = output.clone()
    eight(-images)
    assert torch.equal(output, first)  # the answer is not overwritten by the next
    assert engines.make(one.teacher.module, INT8) is eight


def test_int8_teaches_features_too(fast, digits):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    images, teacher = next(iter(eval_batches(digits, 5))).images, net("resnet14").eval()
    engines, taps = Engines(digits), ("stage2", "layer1.0.conv1", "stage3.preact")
    eight, ends = (engines.make(teacher, replace(INT8, cut=cut)) for cut in (False, True))
    assert (eight.name, ends.name) == ("int8", "int8, cut")
    output, short, true = (engine(images, taps) for engine in (eight, ends, Plain(teacher)))
    assert short.logits.shape == (5, 0)
    assert (output.logits - true.logits).norm() < 0.2 * true.logits.norm()
    for tap in taps:
        for found in (output.tap(tap), short.tap(tap)):
            assert (found - true.tap(tap)).norm() < 0.1 * true.tap(tap).norm()
            assert found.is_contiguous(memory_format=torch.channels_last)
    first = output.tap("stage2").clone()
    eight(-images, taps)
    assert torch.equal(output.tap("stage2"), first)  # the answer is not overwritten by the next
    with torch.autocast("cpu", torch.bfloat16):
        assert eight(images, taps).tap("stage2").dtype is torch.bfloat16


@pytest.mark.parametrize(("error", "kept"), [(0.04, {"folded", "int8"}), (0.08, {"int8"}), (0.12, set())])
def test_a_tap_in_eight_bits_may_be_twice_as_far_off(error, kept):
    near = Agreement(1.0, 0.0, error)
    assert {spec.kind for spec in (EngineSpec("folded", "bfloat16"), INT8) if near.holds(spec)} == kept
    assert not replace(near, taps=0.0, outputs=0.08).holds(INT8)


def test_int8_is_not_tried_where_the_student_is_float32(monkeypatch):
    tried = []
    monkeypatch.setattr(Engines, "make", lambda self, module, spec: tried.append(str(spec)) or Plain(module))
    for one, runtime, expected in (
        (method("at"), HALF, {"folded bfloat16", "int8"}),
        (method(), FLOAT, {"folded float32"}),
        (method(), HALF, {"folded bfloat16", "int8"}),
    ):
        choose(one, runtime, passes=10**12)
        assert set(tried) - {"plain"} == expected
        tried.clear()


def test_a_missing_package_is_a_line_not_an_end(fast, monkeypatch):
    def missing(*_):
        raise AttarError("an int8 teacher needs openvino")

    monkeypatch.setattr(selection, "Int8", type("Int8", (), {"name": "int8", "__init__": missing}))
    names, lines = choose(method(), HALF, "int8")
    assert names == ("plain",)
    assert "int8: not to be had (an int8 teacher needs openvino)" in lines[0]


@pytest.mark.parametrize(
    ("name", "options", "taps", "own"),
    [
        ("kd", {}, (), True),
        ("at", {}, ("stage1", "stage2", "stage3"), True),
        ("simkd", {}, ("final",), True),
        ("rsd", {}, None, None),
    ],
)
def test_what_a_method_reads(name, options, taps, own):
    one = method(name, **options)
    before = {key: value.clone() for key, value in one.state_dict().items()}
    found = teacher_usage(one, batches()[0])
    if taps is not None:
        assert sorted(found[0].taps) == sorted(taps)
        assert found[0].own_images is own
    assert all(torch.equal(value, before[key]) for key, value in one.state_dict().items())
    assert all(isinstance(frozen.engine, Plain) for frozen in one.frozen())


@pytest.mark.parametrize(
    ("name", "expected"), [("kd", False), ("fitnet", True), ("at", True), ("simkd", True), ("sokd", False)]
)
def test_who_ignores_the_teachers_logits(name, expected):
    one = method(name)
    before = {key: value.clone() for key, value in one.state_dict().items()}
    assert ignores_logits(one, one.teacher, batches()[0]) is expected
    assert all(torch.equal(value, before[key]) for key, value in one.state_dict().items())
    assert isinstance(one.teacher.engine, Plain)


def test_a_teacher_ends_after_the_last_feature_that_is_read(digits):
    one, engines = method("fitnet"), Engines(digits)
    names, lines = choose_engines(one, batches(), FLOAT, "auto", engines, 0)
    assert names == (EngineSpec("folded", "float32", cut=True),)
    assert lines[0].endswith("; cut after the last feature it is asked for")
    whole, ran = one.batch_losses(batches()[0]), []
    engines.attach(one, (EngineSpec("folded", "float32"),))
    folded = one.batch_losses(batches()[0])
    engines.attach(one, names)
    one.teacher.engine.module.layer3.register_forward_hook(lambda *_: ran.append("layer3"))
    cut = one.batch_losses(batches()[0])
    assert torch.equal(cut.total, folded.total)
    torch.testing.assert_close(cut.total, whole.total)
    assert not ran


@pytest.mark.parametrize("name", ["kd", "sokd", "kd+fitnet"])
def test_one_whose_logits_are_read_is_whole(name, digits):
    assert not choose_engines(method(name), batches(), FLOAT, "auto", Engines(digits), 0)[0][0].cut


@pytest.mark.parametrize(
    "taps", [("stem",), ("stage1",), ("stage2.preact", "stem"), ("stage3",), ("final",), ("pooled",)]
)
def test_a_cut_network_gives_the_taps_of_the_whole(taps):
    one, images = net("resnet14").eval(), batches()[0].inputs
    whole, cut = one.features(images, taps), one.features(images, taps, logits=False)
    assert cut.taps.keys() == set(taps)
    assert all(torch.equal(cut.tap(tap), whole.tap(tap)) for tap in taps)


def test_agreement_in_numbers():
    truth = [Output(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), {"a": torch.tensor([3.0, 4.0])})]
    output = [Output(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), {"a": torch.tensor([3.0, 4.5])})]
    near = agreement(output, truth)
    assert near.labels == 0.5
    assert near.taps == pytest.approx(0.1)
    # KL of (.269, .731) from (.731, .269), over two images of which one agrees.
    assert near.nats == pytest.approx(0.5 * 0.4621, abs=1e-3)
    broken = agreement([Output(torch.full((2, 2), float("nan")))], [Output(truth[0].logits)])
    assert not broken.holds(EngineSpec("folded", "float32"))


def test_engines_are_made_once_for_the_same_weights(digits):
    engines, first = Engines(digits), net()
    twin = net()
    twin.load_state_dict(first.state_dict())
    folded = EngineSpec("folded", "float32")
    assert engines.make(first, folded) is engines.make(twin, folded)
    assert engines.make(net(), folded) is not engines.make(first, folded)


def test_the_engines_of_a_record_are_attached(digits):
    one = method()
    Engines(digits).attach(one, (EngineSpec("folded", "bfloat16"),))
    assert isinstance(one.teacher.engine, Folded)


def test_only_the_engines_in_use_are_kept(digits):
    one, engines, folded = method(), Engines(digits), EngineSpec("folded", "float32")
    tried = engines.make(one.teacher.module, EngineSpec("folded", "bfloat16"))
    engines.attach(one, (folded,))
    used = one.teacher.engine
    assert engines.make(one.teacher.module, folded) is used
    assert engines.make(one.teacher.module, EngineSpec("folded", "bfloat16")) is not tried
    with torch.no_grad():
        one.teacher.module.conv1.weight.add_(1)
    engines.attach(one, (folded,))
    assert one.teacher.engine is not used
    assert len(engines._made) == 1
