"""Weights of any edge and what is done to logits, for every method, from Python, YAML and the command line."""

import pytest
import torch
from torch import nn

import attar
from attar import losses
from attar.batch import Address, Batch
from attar.distributed.synchronised import whole_batch_losses
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.common.edge_options import WRAPPERS
from attar.methods.common.layer_schedules import by_layer
from attar.methods.registry import OF_EVERY_METHOD
from attar.recipe import read_recipe, to_yaml
from attar.schedules import Linear, Until, read_weight, value
from sweeps import first_of

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
Y = torch.tensor([0, 1])
IMAGES = torch.zeros(2, 3, 8, 8)
EDGE = "teacher.logits->student.logits"


class Constant(nn.Module):
    """A network whose logits are a parameter."""

    input_shape = (3, 8, 8)

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images):
        return self.logits


def built(name="kd", **options):
    return attar.create_method(name, teacher=Constant(T), student=Constant(S), **options).double()


@pytest.mark.parametrize(
    ("text", "epochs", "expected"),
    [
        (0.5, (0, 99), (0.5, 0.5)),
        ("2", (0, 99), (2.0, 2.0)),
        ("linear(0, 1, 20)", (0, 9, 19, 99), (0.05, 0.5, 1.0, 1.0)),
        ("linear(1,0)", (0, 49, 99), (0.99, 0.5, 0.0)),
        ("warmup(20, 3)", (0, 19), (0.15, 3.0)),
        ("rampup(80)", (40,), (0.2865048,)),
        ("decay(100, 0.7)", (10,), (2.824752,)),
        ("from(30, 2)", (29, 30), (0.0, 2.0)),
        ("until(30)", (29, 30), (1.0, 0.0)),
        (Until(3), (2, 3), (1.0, 0.0)),
    ],
)
def test_a_weight_of_any_edge_is_a_number_or_a_schedule(text, epochs, expected):
    method = built(weights={EDGE: text})
    for epoch, weight in zip(epochs, expected, strict=True):
        found = method.losses(IMAGES, Y, epoch=epoch, epochs=100)
        assert found.weights[EDGE] == pytest.approx(weight, abs=1e-6)
        assert found.weights["labels->student.logits"] == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linaer(0,1)", "unknown weight schedule 'linaer'; did you mean 'linear'"),
        ("linear(0,1", "NAME\\(number, ...\\)"),
        ("linear(0,x)", "NAME\\(number, ...\\)"),
        ("linear(0)", "linear takes \\(start, end, over\\), got 1 numbers"),
        ("linear(0", "in quotation marks where it is in {} or"),
        ("nan", "a finite number or a schedule such as linear.*, got 'nan'"),
        (float("inf"), "got inf"),
        (True, "got True"),
        (None, "got None"),
        ([1, 2], r"got \[1, 2\]"),
    ],
)
def test_a_weight_that_cannot_be_read(text, message):
    with pytest.raises(AttarError, match=message):
        built(weights={EDGE: text})


def test_an_unknown_edge_is_answered_with_the_edges():
    with pytest.raises(AttarError, match=f"no edge 'teacher->student'; the edges are .*'{EDGE}'"):
        built(weights={"teacher->student": 1})
    with pytest.raises(AttarError, match=f"no edge 'labels->student.logits'; the edges are '{EDGE}'"):
        built(logit_edges={"labels->student.logits": "standardised"})


def test_recipes_write_them_as_yaml_and_as_overrides(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"method:\n  name: kd\n  weights:\n    {EDGE}: linear(0, 1, 20)\n  logit_edges: standardised\n")
    from_file = read_recipe(file)
    override = read_recipe(
        overrides=["method=kd", f'method.weights."{EDGE}"=linear(0,1,20)', "method.logit_edges=standardised"]
    )
    for recipe in (from_file, override):
        assert read_weight(recipe.method.options["weights"][EDGE]) == Linear(0, 1, 20)
        assert recipe.method.options["logit_edges"] == "standardised"
        file.write_text(to_yaml(recipe))
        assert read_recipe(file) == recipe


def test_keys_of_edges_are_put_together_again_and_may_stand_without_the_method():
    texts = (f"method.weights.'{EDGE}'", f"method.weights.{EDGE}", f'weights."{EDGE}"', f"weights.{EDGE}")
    for text in texts:
        options = read_recipe(overrides=[f"{text}=linear(0,1,20)", "method=kd"]).method.options
        assert built(**options).losses(IMAGES, Y, epoch=4).weights[EDGE] == 0.25
    top = read_recipe(overrides=["method=kd", *(f"{option}=mean" for option in OF_EVERY_METHOD)])
    assert top.method.options == dict.fromkeys(OF_EVERY_METHOD, "mean")
    nested = {"teacher": {"logits->student": {"logits": "standardised"}}}
    by_key, all_edges = (built(logit_edges=one).losses(IMAGES, Y).total for one in (nested, "standardised"))
    assert by_key == all_edges


@pytest.mark.parametrize("option", ["weights", "logit_edges"])
@pytest.mark.parametrize("given", [3, True, ["standardised"]])
def test_options_of_edges_that_are_no_mapping(option, given):
    with pytest.raises(AttarError, match=f"{option}: expected values by the keys of edges, .*, got "):
        built(**{option: given})


def test_standardised_is_lskd():
    found = built(temperature=2.0, kd=9.0, logit_edges="standardised").losses(IMAGES, Y)
    assert found.total.item() == pytest.approx(built("lskd").losses(IMAGES, Y).total.item(), abs=1e-12)


def test_normalised_is_normkd():
    found = built(temperature=2.0, logit_edges="normalised").losses(IMAGES, Y)
    assert found[EDGE].item() == pytest.approx(losses.normkd(S, T).item(), abs=1e-9)
    wrapped = losses.NormalisedTemperature(losses.KLDivergence(2.0))
    second = wrapped(S, T, weight=torch.tensor([0.0, 1.0]))
    assert second.item() == pytest.approx(losses.normkd(S[1:], T[1:]).item(), abs=1e-9)


def test_normalised_leaves_what_has_no_temperature():
    own = nn.functional.one_hot(Y, 3).bool()
    deviations = [logits.std(1, keepdim=True) for logits in (S, T)]
    target = -(T.softmax(1) * S.log_softmax(1))[own]
    lower = [(logits / one)[~own].view(2, 2).log_softmax(1) for logits, one in zip((S, T), deviations, strict=True)]
    others = -1.5 * deviations[1][:, 0].square() * (lower[1].exp() * lower[0]).sum(1)
    found = losses.NormalisedTemperature(losses.NKD())(S, T, Y)
    assert found.item() == pytest.approx((target + others).mean().item(), abs=1e-12)
    second = losses.NormalisedTemperature(losses.NKD())(S, T, Y, weight=torch.tensor([0.0, 1.0]).double())
    assert second.item() == pytest.approx((target + others)[1].item(), abs=1e-12)
    # The alpha-beta divergence has no factor T^2.
    divided = losses.alpha_beta(*(logits / one for logits, one in zip((S, T), deviations, strict=True)))
    assert losses.NormalisedTemperature(losses.AlphaBeta())(S, T).item() == pytest.approx(divided.item(), abs=1e-12)


def test_entropy_is_eakd():
    found = built(logit_edges="entropy").losses(IMAGES, Y)
    assert found[EDGE].item() == pytest.approx(losses.entropy_adaptive_kl(S, T).item(), abs=1e-9)
    assert found[EDGE].item() == pytest.approx(0.104651, abs=1e-6)
    wrapped = losses.EntropyWeighted(losses.KLDivergence(4.0))
    second = wrapped(S, T, weight=torch.tensor([0.0, 1.0]))
    assert second.item() == pytest.approx(losses.entropy_adaptive_kl(S[1:], T[1:]).item(), abs=1e-9)


def test_entropy_weighs_the_rows_of_dkd():
    found = built("dkd", logit_edges="entropy(3)").losses(IMAGES, Y, epoch=0)
    each = torch.stack([losses.dkd(S[[i]], T[[i]], Y[[i]]) for i in (0, 1)])
    expected = (torch.tensor([1.002090, 1.037080], dtype=torch.float64) * each).mean()
    assert found[EDGE].item() == pytest.approx(expected.item(), abs=1e-6)


def test_learnt_is_ctkd_and_its_parameter_moves_against_the_student():
    method = built(logit_edges="learnt(1, 20, 10)")
    found, expected = (one.losses(IMAGES, Y, epoch=4, epochs=20) for one in (method, built("ctkd")))
    assert found.total.item() == pytest.approx(expected.total.item(), abs=1e-9)
    (theta,) = (parameter for name, parameter in method.named_parameters() if "theta" in name)
    assert any(theta is one for one in method.trainable())
    found.total.backward()
    straight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    (0.9 * losses.kl_divergence(S, T, 1 + 20 * straight.sigmoid())).backward()
    torch.testing.assert_close(theta.grad, -0.5 * straight.grad)


@pytest.mark.parametrize("name", ["dkd", "nkd", "dist", "rld", "skd", "abkd"])
def test_a_learnt_temperature_starts_as_the_losses_own_would(name):
    learnt = built(name, logit_edges="learnt(2, 4)")
    temperature = 2 + 4 * torch.ones((), dtype=torch.float64).sigmoid().item()
    plain = built(name)
    next(edge for edge in plain.edges if edge.key == EDGE).loss.temperature = temperature
    values = [one.losses(IMAGES, Y, epoch=0)[EDGE].item() for one in (learnt, plain)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize("name", ["deepkd", "dkd", "nkd", "rld", "wkdl"])
def test_a_learnt_temperature_has_a_gradient_where_classes_are_left_out(name):
    nets = {role: attar.create_model("resnet8", num_classes=5, image_size=8) for role in ("teacher", "student")}
    edge = {"deepkd": "other classes", "wkdl": "other classes"}.get(name, EDGE)
    method = attar.create_method(name, **nets, logit_edges={edge: "learnt"})
    method.losses(torch.randn(6, 3, 8, 8), torch.arange(6) % 5, epoch=5, epochs=20).total.backward()
    (theta,) = (parameter.grad for key, parameter in method.named_parameters() if "theta" in key)
    assert theta.isfinite().all()
    assert theta.abs().sum() > 0


def test_a_temperature_that_does_nothing_is_not_learnt():
    nets = {role: attar.create_model("resnet8", num_classes=5, image_size=8) for role in ("teacher", "student")}
    with pytest.raises(AttarError, match="edge 'target class' cannot be learnt: TargetClass has no temperature"):
        attar.create_method("wkdl", **nets, logit_edges="learnt")


@pytest.mark.parametrize("text", ["learnt(-3, 2)", "learnt(0)", "learnt(1, -5)"])
def test_a_learnt_temperature_stays_above_0(text):
    with pytest.raises(AttarError, match="must be above 0"):
        built(logit_edges=text)


@pytest.mark.parametrize("name", ["averkd", "camkd", "ceskd", "dgkd", "ebkd"])
def test_logits_of_several_teachers_are_standardised_each(name):
    shifted = [Constant(3 * T + 1), Constant(T - 2)]
    nets = {"student": Constant(S)}
    nets |= {"feature": 0} if name == "camkd" else {}
    one = attar.create_method(name, teacher=shifted, **nets, logit_edges="standardised").double()
    two = attar.create_method(name, teacher=[Constant(T), Constant(T)], **nets, logit_edges="standardised").double()
    values = [method.losses(IMAGES, Y, epoch=0, epochs=2, step=0) for method in (one, two)]
    key = "teachers.logits->student.logits"
    assert values[0][key].item() == pytest.approx(values[1][key].item(), abs=1e-5)


def test_what_a_loss_cannot_take_is_refused_with_its_edge():
    with pytest.raises(AttarError, match=f"edge '{EDGE}' cannot be learnt: TTM has no temperature"):
        built("ttm", logit_edges="learnt")
    with pytest.raises(AttarError, match=f"edge '{EDGE}' cannot be normalised: DIST takes no weight"):
        built("dist", logit_edges="normalised")
    with pytest.raises(AttarError, match="unknown value of logit_edges: 'standard'; did you mean 'standardised'"):
        built(logit_edges="standard")
    with pytest.raises(AttarError, match=r"entropy takes \(temperature\)"):
        built(logit_edges="entropy(1,2)")
    with pytest.raises(AttarError, match="no edge joins the logits of two networks"):
        attar.create_method("supervised", student=Constant(S), logit_edges="learnt")


@pytest.mark.parametrize("name", first_of(WRAPPERS))
def test_peers_and_bridges_have_them_too(name):
    assert len(attar.check_method("dml", logit_edges=name)) == 12


def test_joined_methods_take_them_together_or_each():
    nets = {"teacher": attar.create_model("resnet14"), "student": attar.create_model("resnet8")}
    both = attar.create_method("kd+at", **nets, weights={"teacher.stage3->student.stage3": 7}, logit_edges="learnt")
    weights = {edge.key: edge.weight for edge in both.edges}
    assert weights["teacher.stage3->student.stage3"] == 7
    assert weights["teacher.stage2->student.stage2"] == 1000
    assert any("theta" in name for name, _ in both.named_parameters())
    own = attar.create_method("kd+at", **nets, at={"weights": {"teacher.stage3->student.stage3": 7}})
    assert {edge.key: edge.weight for edge in own.edges} == weights


def test_what_wraps_a_loss_between_samples_is_gathered_inside():
    wrapped = losses.Standardised(losses.DIST())
    assert list(whole_batch_losses(wrapped)) == [wrapped.loss]


def test_the_epoch_is_knowledge_of_every_batch():
    batch = Batch(IMAGES, Y, address=Address(epoch=7), epochs=10)
    known = built().batch_losses(batch).knowledge
    assert known["epoch"].item() == 7.0
    assert "epoch" not in list(known)


def layered(schedule, **options):
    """AT between ResNets of three stages, and KD."""
    nets = {
        "teacher": attar.create_model("resnet14", num_classes=4, image_size=8),
        "student": attar.create_model("resnet8", num_classes=4, image_size=8),
    }
    return attar.create_method("kd+at", **nets, layer_schedule=schedule, **options)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("progressive", ["1", "2", "3", "out"]),
        ("stacked", ["1", "12", "123", "out"]),
        ("stacked(2)", ["1", "1", "12", "12", "123", "123", "out", "out"]),
        ("all", ["123out"]),
    ],
)
def test_layers_learn_one_after_the_other_bottom_up_and_then_the_outputs(schedule, expected):
    edges = layered(schedule).edges
    plain = {edge.key: value(edge.weight, 0, 1) for edge in layered("all").edges}
    for epoch, learning in enumerate(expected):
        weights = {edge.key: value(edge.weight, epoch, len(expected)) for edge in edges}
        layers = "".join(str(n) for n in (1, 2, 3) if weights[f"teacher.stage{n}->student.stage{n}"])
        outputs = "out" if weights[EDGE] and weights["labels->student.logits"] else ""
        assert layers + outputs == learning
        assert all(weight in (0.0, plain[key]) for key, weight in weights.items())


def test_a_schedule_by_layer_keeps_the_weights_of_a_recipe_and_trains_only_its_layer():
    method = layered("progressive(1)", weights={"teacher.stage2->student.stage2": "linear(0, 8)"})
    batch = Batch(torch.randn(2, 3, 8, 8), Y, address=Address(epoch=1), epochs=4)
    losses = method.batch_losses(batch)
    assert losses.weights["teacher.stage2->student.stage2"] == 4.0
    losses.total.backward()
    reached = {name.split(".")[2] for name, one in method.student.named_parameters() if one.grad is not None}
    assert (any("3" in name for name in reached), "classifier" in reached, "linear" in reached) == (False, False, False)
    attar.conformance.check(method, batch)


@pytest.mark.parametrize(
    ("name", "schedule", "message"),
    [
        ("kd", "stacked", "has none; choose internal"),
        ("kd", "stackd", "did you mean 'stacked'"),
        ("kd", "stacked(0.5)", "whole epochs a layer"),
        ("kd", "all(2)", "whole epochs a layer"),
    ],
)
def test_a_schedule_by_layer_that_cannot_be_is_one_line(name, schedule, message):
    with pytest.raises(AttarError, match=message):
        built(name, layer_schedule=schedule)


def test_too_few_epochs_for_the_layers_are_one_line_before_training():
    batch = Batch(torch.randn(2, 3, 8, 8), Y, epochs=3)
    with pytest.raises(AttarError, match="need 3 epochs before the outputs learn, and there are 3; give epochs=4"):
        attar.conformance.check(layered("stacked(1)"), batch)


def test_a_standardised_loss_of_all_nodes_is_still_of_all_nodes():
    everywhere = losses.PerToken(losses.KLDivergence(2.0), everywhere=True)
    learner, source = S[None], T[None]
    batch = Batch(learner, Y[None], weight=torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    for loss, expected in ((everywhere, False), (losses.Standardised(everywhere), False), (everywhere.loss, True)):
        assert Transfer("teacher.logits", "student.logits", loss).weighs(batch) is expected
    found = Transfer("teacher.logits", "student.logits", losses.Standardised(everywhere))
    known = Knowledge(batch, student=learner, teacher=source)
    assert found(known).item() == pytest.approx(losses.Standardised(losses.KLDivergence(2.0))(S, T).item(), abs=1e-12)


@pytest.mark.parametrize("taps", [["conv1", "layer1", "layer2"], ["through.a", "direct.b", "through.c", "direct.d"]])
def test_layers_of_one_depth_stay_in_the_order_of_the_edges(taps):
    edges = [Transfer(f"teacher.{tap}", f"student.{tap}", nn.MSELoss()) for tap in taps]
    assert [one.layer for one in by_layer(edges, "logits", "stacked").values()] == [*range(len(taps))]


def test_the_pooled_level_of_review_comes_last():
    nets = {role: attar.create_model("resnet8", num_classes=4, image_size=8) for role in ("teacher", "student")}
    method = attar.create_method("reviewkd", **nets, layer_schedule="progressive")
    places = {edge.key: edge.weight.layer for edge in method.edges if hasattr(edge.weight, "layer")}
    pooled = next(place for key, place in places.items() if "pooled" in key)
    assert pooled == max(place for key, place in places.items() if not key.endswith(".logits"))
