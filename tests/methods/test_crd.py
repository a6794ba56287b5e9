"""CRD: two memories, each of an embedding of every image."""

import pytest
import torch
import torch.nn.functional as F

from attar.batch import Address, Batch
from attar.errors import AttarError
from attar.losses import Contrast, contrast
from attar.methods import create_method
from attar.methods.crd import Memory
from attar.models import create_model
from attar.train.ema import Ema

LABELS = torch.arange(12) % 4


def crd(name="crd", set_up=True, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [create_model(net, num_classes=4, image_size=8) for net in ("resnet14", "wrn_16_2")]
        method = create_method(name, teacher=nets[0], student=nets[1], **options).train()
        if set_up:
            method.setup(LABELS)
        return method


def a_batch(step=0, count=6, **more):
    generator = torch.Generator().manual_seed(step)
    index = torch.randperm(12, generator=generator)[:count]
    return Batch(torch.randn(count, 3, 8, 8, generator=generator), LABELS[index], index, **more)


def memory(width=3, momentum=0.5):
    torch.manual_seed(0)
    made = Memory(Contrast(0.5, 4), width, momentum)
    made.fill(LABELS)
    return made


def vectors(seed, count=3, width=3):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator), dim=1)


def test_the_published_settings():
    method = crd()
    assert method.of_teacher.contrast.settings == {"temperature": 0.07, "negatives": 16384}
    assert (method.weight, method.ce, method.of_student.momentum) == (0.8, 1.0, 0.5)
    assert method.of_teacher.vectors.shape == method.of_student.vectors.shape == (12, 128)
    # The resnets' classifiers see 64 numbers, the wide one's 128.
    assert method.teacher_embedding.weight.shape == (128, 64)
    assert method.student_embedding.weight.shape == (128, 128)


def test_embeddings_have_length_one():
    knowledge = crd().run(a_batch())
    for name in ("teacher", "student"):
        assert torch.allclose(knowledge[f"{name}.embedding"].norm(dim=1), torch.ones(6), atol=1e-6)


def test_each_side_learns_from_the_memory_of_the_other():
    method = crd()
    keys = ["teacher.embedding->student.embedding", "student.embedding->teacher.embedding"]
    reached = []
    for key in keys:
        method.zero_grad()
        method.losses(a_batch().inputs, a_batch().labels, index=a_batch().index)[key].backward()
        reached.append({name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None})
    assert reached == [{"student", "student_embedding"}, {"teacher_embedding"}]


def test_value_and_gradient_are_those_before_it_remembers():
    one, learner, source, index = memory(), vectors(1), vectors(2), torch.tensor([3, 0, 7])
    before, plain, mine = one.vectors.clone(), learner.clone().requires_grad_(), learner.clone().requires_grad_()
    log_z = (learner @ before.T / 0.5).exp().mean().mul(len(before)).log()
    expected = contrast(plain, before, index, LABELS, log_z, 0.5, 4)
    expected.backward()
    value = one(mine, source, index)
    (3 * value).backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(mine.grad, 3 * plain.grad)
    assert one.log_normaliser.item() == pytest.approx(log_z.item(), rel=1e-5)


def test_it_remembers_a_running_mean_of_its_source():
    one, source, index = memory(momentum=0.75), vectors(2), torch.tensor([3, 0, 7])
    before = one.vectors.clone()
    one(vectors(1), source, index)
    expected = before.clone()
    for row, vector in zip(index.tolist(), source, strict=True):
        moved = 0.75 * before[row] + 0.25 * vector
        expected[row] = moved / moved.norm()
    torch.testing.assert_close(one.vectors, expected)


def test_the_normaliser_is_the_first_batchs():
    one, index = memory(), torch.tensor([3, 0, 7])
    assert not one.begun
    one(vectors(1), vectors(2), index)
    first = one.log_normaliser.clone()
    one(vectors(3), vectors(4), index)
    assert one.log_normaliser == first
    assert one.begun


def test_averages_of_its_state_are_numbers():
    one = memory()
    ema = Ema(one, 0.9)
    for step in range(2):
        one(vectors(step), vectors(step + 2), torch.tensor([3, 0, 7]))
        ema.update()
    assert all(tensor.isfinite().all() for tensor in ema.state.values())
    assert ema.state["begun"]


def test_looking_changes_nothing():
    one = memory().eval()
    before = one.vectors.clone()
    one(vectors(1), vectors(2), torch.tensor([3, 0, 7]))
    assert torch.equal(one.vectors, before)
    assert not one.begun


def test_random_embeddings_are_about_as_long_as_real_ones():
    one = Memory(Contrast(), 128, 0.5)
    one.fill(torch.zeros(500, dtype=torch.int64))
    assert one.vectors.norm(dim=1).mean().item() == pytest.approx(1.0, abs=0.02)


def test_it_joins_others_as_the_first():
    method = crd("crd+kd")
    losses = method.losses(a_batch().inputs, a_batch().labels, index=a_batch().index)
    assert set(losses) == {
        "labels->student.logits",
        "teacher.embedding->student.embedding",
        "student.embedding->teacher.embedding",
        "teacher.logits->student.logits",
    }


def test_it_must_know_the_images():
    with pytest.raises(AttarError, match=r"call method.setup\(labels\) with theirs first"):
        crd(set_up=False).batch_losses(a_batch())


def test_it_must_know_which_images_a_batch_has():
    with pytest.raises(AttarError, match=r"give losses\(..., index=\) their numbers"):
        crd().losses(a_batch().inputs, a_batch().labels)


def test_it_refuses_images_without_labels():
    with pytest.raises(AttarError, match=r"leave data.unlabelled out"):
        crd().batch_losses(a_batch(labelled=4))


def test_angularkd_begins_with_its_views_and_then_teaches_their_ensemble():
    method = crd("angularkd", init=2)
    first, later = (method.batch_losses(a_batch(address=Address(0, epoch, 0))) for epoch in (0, 2))
    student = {key for key in first.weights if "student" in key}
    assert {first.weights[key] for key in student} == {0.0}
    assert all(later.weights[key] > 0 for key in student)
    known = later.knowledge
    target = (known["teacher.logits"] / 4).softmax(1) + 0.8 * (known["views.scores"] / 4).softmax(2).sum(1)
    torch.testing.assert_close((known["ensemble.logits"] / 4).softmax(1), target / 5)
    expected = (known["teacher.pooled"] + 0.8 * known["views.features"].sum(1)) / 5
    embedding = F.normalize(method.teacher_embedding(expected), dim=1)
    torch.testing.assert_close(known["teacher.embedding"], embedding)


def test_angularkd_views_differ_and_drop_by_the_address():
    method = crd("angularkd", views=3)
    known, again, other = (method.run(a_batch(address=Address(0, 0, step))) for step in (0, 0, 1))
    assert torch.equal(known["views.features"], again["views.features"])
    assert not torch.equal(known["views.features"], other["views.features"])
    assert method.deployed() is method.student.module
    with pytest.raises(AttarError, match="give 2 to 64"):
        crd("angularkd", views=65)
