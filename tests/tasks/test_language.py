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
from attar.knowledge import Output
from attar.methods import create_method
from attar.metrics import score
from attar.metrics.language import LanguageMetrics
from attar.recipe import read_recipe
from attar.tasks import Language, create_task, task_name
from attar.tasks.language import DIVERGENCES
from attar.teachers.logit_codec import codec_of

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


class Given(nn.Module):
    """A language model with these logits, whatever the tokens are."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, ids):
        return self.logits


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


def divergences(p, q, temperature, alpha=0.8, beta=0.3):
    """Each divergence of rows of probabilities that are softened already, p the teacher's, averaged, as its formula."""
    m, both = (p + q) / 2, alpha + beta

    def kl(a, b):
        return temperature**2 * (a * (a / b).log()).sum(1).mean()

    terms = p**alpha * q**beta - alpha / both * p**both - beta / both * q**both
    return {
        "forward": kl(p, q),
        "reverse": kl(q, p),
        "js": (kl(p, m) + kl(q, m)) / 2,
        "alpha_beta": -terms.sum(1).mean() / (alpha * beta),
    }


@pytest.mark.parametrize("divergence", DIVERGENCES)
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
    expected = divergences(p, q, 2.0)[divergence]
    assert losses["teacher.logits->student.logits"].item() == pytest.approx(expected.item(), rel=1e-4)
    entropy = nn.functional.cross_entropy(student(ids[:, :-1])[kept], ids[:, 1:][kept])
    assert losses["labels->student.logits"].item() == pytest.approx(entropy.item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_of_cached_top_logits_the_rest_is_spread_evenly(divergence, temperature):
    """p has the teacher's largest probabilities as they are and what remains in equal parts, then softened."""
    rng = torch.Generator().manual_seed(0)
    theirs, own = (torch.randn(2, 3, 7, generator=rng, dtype=torch.float64) * 2 for _ in range(2))
    codec = codec_of((3, 7), top=2)
    task = create_task("language", divergence=divergence)
    teacher, student = Given(theirs), Given(own)
    method = create_method("kd", teacher=teacher, student=student, task=task, temperature=temperature)
    ids = torch.randint(7, (2, 3), generator=rng)
    method.teacher.set_output(ids, Output(codec.decode(codec.encode(theirs))))
    found = method.batch_losses(Batch(ids, ids))["teacher.logits->student.logits"]
    whole = theirs.flatten(0, 1).softmax(1)
    values, where = whole.topk(2, dim=1)
    rest = (1 - values.sum(1, keepdim=True)) / 5
    p = rest.repeat(1, 7).scatter(1, where, values) ** (1 / temperature)
    q = own.flatten(0, 1).div(temperature).softmax(1)
    expected = divergences(p / p.sum(1, keepdim=True), q, temperature)[divergence]
    assert found.item() == pytest.approx(expected.item(), rel=2e-3)  # logits are kept in float16
    full = method.batch_losses(Batch(ids.clone(), ids))["teacher.logits->student.logits"]
    assert full.item() != pytest.approx(expected.item(), rel=2e-3)


def test_alpha_and_beta_are_settings_of_the_task():
    loss = create_task("language", divergence="alpha_beta", alpha=0.5, beta=0.5).imitate(3.0).loss
    assert (loss.alpha, loss.beta, loss.temperature) == (0.5, 0.5, 3.0)


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
