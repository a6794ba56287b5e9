"""Language models: blocks of text, losses over tokens, and their scores."""

import math

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.conformance import check
from attar.data.loading.tensor_loader import TensorLoader
from attar.data.sources.text import read_text
from attar.errors import AttarError
from attar.methods import create_method
from attar.metrics import score
from attar.metrics.language import LanguageMetrics
from attar.recipe import read_recipe
from attar.tasks import Language, create_task, task_name

TEXT = "To be, or not to be, that is the question. " * 20


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "hamlet.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


class Bigram(nn.Module):
    """The smallest language model: each token's logits follow from the one before."""

    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.table = nn.Embedding(256, 256)

    def forward(self, ids):
        return self.table(ids)


def loaded(text, **options):
    recipe = read_recipe(data={"name": "text", "root": str(text), "block_size": 8, **options})
    task = create_task(task_name(recipe.task.name, recipe.data.name))
    return task, task.load(recipe)


def test_the_labels_are_the_next_bytes_and_the_parts_are_in_order(text):
    task, splits = loaded(text)
    found = [bytes(one.inputs.flatten().tolist()).decode() for one in (splits.train, splits.val, splits.test)]
    assert TEXT.startswith(found[0])
    assert found[1] in TEXT
    assert found[2] in TEXT[-len(found[2]) - 16 :]
    assert splits.train.labels.flatten()[:-1].tolist() == splits.train.inputs.flatten()[1:].tolist()
    assert (splits.num_classes, task.characters) == (256, 1.0)


def test_bits_are_counted_by_characters_where_these_take_several_tokens(tmp_path):
    file = tmp_path / "accents.txt"
    file.write_text("é" * 400, encoding="utf-8")
    task, _ = loaded(file)
    assert task.characters == 0.5
    metrics = task.metrics()
    metrics.update(torch.zeros(1, 3, 256), Batch(torch.zeros(1, 3), torch.tensor([[1, 2, 3]])))
    assert metrics.compute()["bits"] == pytest.approx(16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 4000}, "tokens, a block 4000"),
        ({"blok_size": 4}, "blok_size"),
        ({"block_size": "8 tokens"}, "must be int"),
        ({"mixup": 0.2}, "data.mixup is for classified images"),
        ({"tokenizer": "/nowhere"}, "is no folder|needs transformers"),
    ],
)
def test_bad_input_is_one_line_before_training(text, options, message):
    with pytest.raises(AttarError, match=message) as error:
        loaded(text, **options)
    assert "\n" not in str(error.value)


def test_text_that_is_no_utf8_is_refused(tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes(b"\xff\xfe" * 100)
    with pytest.raises(AttarError, match="cannot be read as UTF-8"):
        read_text(file, 8)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "js"])
def test_kd_is_the_mean_over_the_tokens_that_count(divergence):
    teacher, student = Bigram(0), Bigram(1)
    method = create_method(
        "kd", teacher=teacher, student=student, task=Language(divergence=divergence), temperature=2.0
    )
    ids = torch.randint(256, (3, 6), generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([[1.0] * 5, [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    losses = method.batch_losses(Batch(ids[:, :-1], ids[:, 1:], weight=weight))
    kept = weight.bool()
    p, q = (net(ids[:, :-1])[kept].div(2).softmax(1) for net in (teacher, student))
    m = (p + q) / 2

    def kl(a, b):
        return 4 * (a * (a / b).log()).sum(1).mean()

    expected = {"forward": kl(p, q), "reverse": kl(q, p), "js": (kl(p, m) + kl(q, m)) / 2}[divergence]
    assert losses["teacher.logits->student.logits"].item() == pytest.approx(expected.item(), rel=1e-4)
    entropy = nn.functional.cross_entropy(student(ids[:, :-1])[kept], ids[:, 1:][kept])
    assert losses["labels->student.logits"].item() == pytest.approx(entropy.item(), rel=1e-5)


def test_a_student_learns_text_by_kd(text):
    task, splits = loaded(text)
    teacher, student = Bigram(0), Bigram(1)
    method = create_method("kd", teacher=teacher, student=student, task=task, temperature=1.0)
    loader = TensorLoader(splits.train, 16)
    check(method, next(loader.epoch(0)))
    before = score(student, TensorLoader(splits.test, 4, shuffle=False).epoch(0), task.metrics(), teacher)
    optimiser = torch.optim.Adam(method.trainable(), 0.1)
    for epoch in range(2):
        for batch in loader.epoch(epoch):
            optimiser.zero_grad()
            method.batch_losses(batch).total.backward()
            optimiser.step()
    after = score(student, TensorLoader(splits.test, 4, shuffle=False).epoch(0), task.metrics(), teacher)
    assert after["kl"] < before["kl"] / 2


def test_the_scores_of_parts_are_those_of_the_whole():
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 5, 7, generator=rng), torch.randint(7, (4, 5), generator=rng)
    weight = (torch.rand(4, 5, generator=rng) < 0.5).float()
    whole = Batch(logits, labels, weight=weight)
    metrics = LanguageMetrics()
    for part in (slice(0, 1), slice(1, 4)):
        metrics.update(logits[part], whole.rows(part))
    kept = weight.bool()
    nll = nn.functional.cross_entropy(logits[kept].double(), labels[kept]).item()
    found = metrics.compute()
    assert found["perplexity"] == pytest.approx(math.exp(nll))
    assert found["accuracy"] == pytest.approx((logits.argmax(2) == labels)[kept].double().mean().item())


def test_an_unknown_divergence_is_answered_with_the_nearest():
    with pytest.raises(AttarError, match=r"revers.*reverse"):
        create_task("language", divergence="revers")
