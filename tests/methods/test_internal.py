"""KD from internal representations on text classifiers and on vision transformers."""

import pytest
import torch
import torch.nn.functional as F

import attar
from attar.conformance import check_method
from attar.conformance.cases import text_classifiers, vision_transformers
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import create_model
from attar.models.surgery.taps import observe


def on_text(**options):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    teacher, student = text_classifiers()
    return create_method("internal", teacher=teacher, student=student, task="text", **options)


def test_its_losses_are_those_of_the_paper_on_the_paired_layers():
    method, batch = on_text().double(), attar.create_task("text").example()
    losses = method.batch_losses(batch)
    taps = [f"layer{n}.{what}" for n in (1, 2, 4) for what in ("attention", "cls")]
    teacher = observe(method.teacher.module, batch.inputs, taps)
    student = observe(method.student.module, batch.inputs, taps[:4])
    real = batch.inputs["attention_mask"].bool()
    for own, theirs in ((1, 2), (2, 4)):
        key = f"teacher.layer{theirs}.{{0}}->student.layer{own}.{{0}}"
        a_s, a_t = student.tap(f"layer{own}.attention"), teacher.tap(f"layer{theirs}.attention")
        sentences = []
        for row, tokens in enumerate(real):
            p, q = (one[row][:, tokens][:, :, tokens].double() for one in (a_t, a_s))
            sentences.append((p * (p / q).log()).sum(-1).mean())
        expected = torch.stack(sentences).mean().item()
        assert losses[key.format("attention")].item() == pytest.approx(expected, rel=1e-4)
        h_s, h_t = student.tap(f"layer{own}.cls"), teacher.tap(f"layer{theirs}.cls")
        cosine = (1 - F.cosine_similarity(h_t, h_s)).mean().item()
        assert losses[key.format("cls")].item() == pytest.approx(cosine, rel=1e-4)
    assert losses.total.item() == pytest.approx(sum(losses.terms.values()).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "active"),
    [
        ("progressive(1)", [{1}, {2}, {3}, {4}, {5}, {6}, set()]),
        ("stacked(1)", [{*range(1, n + 1)} for n in range(1, 7)]),
    ],
)
def test_the_schedules_of_six_layers_and_an_epoch_each(schedule, active):
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 4, "num_attention_heads": 1, "intermediate_size": 4, "vocab_size": 16}
    nets = (create_model("hf-config/bert", 2, 3, 8, num_hidden_layers=depth, **sizes) for depth in (12, 6))
    method = create_method("internal", **dict(zip(("teacher", "student"), nets, strict=True)), layer_schedule=schedule)
    assert [theirs for _, theirs in method.pairs] == [2, 4, 6, 8, 10, 12]
    for epoch, expected in enumerate(active):
        weighing = {
            int(edge.target.removeprefix("student.layer").partition(".")[0])
            for edge in method.edges
            if "layer" in edge.target and edge.weight(epoch, 7)
        }
        assert weighing == expected
    outputs = [edge.weight(6, 7) for edge in method.edges if edge.target == "student.logits"]
    assert outputs == [1.0, 1.0]


def test_it_passes_the_suite_on_images_and_on_text():
    pytest.importorskip("transformers")
    pytest.importorskip("timm")
    assert len(check_method("internal")) == 12
    assert len(check_method("internal", task="text")) == 10


def test_attention_of_unequal_heads_and_networks_without_attention_are_one_line():
    pytest.importorskip("timm")
    teacher, student = vision_transformers()
    with pytest.raises(AttarError, match=r"attention of transformers with a class token, and the teacher \(ResNet\)"):
        create_method("internal", teacher=create_model("resnet8", num_classes=6), student=student)
    other = create_model(
        "timm/vit_tiny_patch16_224", 6, 3, 16, patch_size=8, embed_dim=8, num_heads=4, input_size=16, depth=2
    )
    method = create_method("internal", teacher=teacher, student=other)
    with pytest.raises(AttarError, match="number of heads"):
        method.losses(torch.zeros(2, 3, 16, 16), torch.tensor([0, 1]))
