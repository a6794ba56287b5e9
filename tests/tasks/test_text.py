"""Sentences with labels: files read and checked, tokens, batches cut to their longest sentence, scores."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attar.batch import Batch
from attar.data.loading.tensor_loader import TensorLoader
from attar.data.sources.sentences import Rows, classes_of
from attar.errors import AttarError
from attar.metrics.sentences import SentenceMetrics
from attar.recipe import read_recipe
from attar.tasks import task_of, text
from attar.tasks.predictions import Request

TRAIN = [("so good", "1"), ("bad", "0"), ('a "fine" one', "1"), ("poor thing", "0")]


def tsv(rows, columns=("sentence", "label")):
    return "\n".join(["\t".join(columns), *("\t".join(row) for row in rows)]) + "\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.tsv").write_text(tsv(TRAIN), encoding="utf-8")
    (tmp_path / "dev.tsv").write_text(tsv(TRAIN[:2]), encoding="utf-8")
    return tmp_path


def load(root, **options):
    recipe = read_recipe(data={"name": "sentences", "root": str(root), **options})
    return task_of(recipe).load(recipe)


def text_of(inputs, row):
    kept = inputs["attention_mask"][row].bool()
    return bytes(one for one in inputs["input_ids"][row][kept].tolist() if one < 256).decode()


def test_a_folder_of_train_and_dev_is_tested_on_dev(folder):
    splits = load(folder)
    assert (len(splits.train), len(splits.test), splits.val, splits.classes) == (4, 2, None, ("0", "1"))
    assert [text_of(splits.train.inputs, row) for row in range(4)] == [sentence for sentence, _ in TRAIN]
    assert splits.train.labels.tolist() == [1, 0, 1, 0]
    assert splits.train.inputs["input_ids"][1].tolist()[:6] == [256, *b"bad", 257, 258]
    assert splits.network == {"num_classes": 2, "image_size": 14, "vocab_size": 259, "pad_token_id": 258}
    (folder / "test.tsv").write_text(tsv(TRAIN[2:3]), encoding="utf-8")
    splits = load(folder)
    assert [len(one) for one in (splits.train, splits.val, splits.test)] == [4, 2, 1]


def test_csv_and_jsonl_hold_the_same_and_pairs_have_two_types(tmp_path):
    rows = [("so, good", "yes", "a"), ("bad", "no", "b")] * 4
    lines = ["premise,hypothesis,kind", *(f'"{one}",{other},{label}' for one, other, label in rows)]
    (tmp_path / "pairs.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    names = {"sentence": "premise", "second": "hypothesis", "label": "kind"}
    (tmp_path / "pairs.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(names.values(), row, strict=True))) for row in rows), encoding="utf-8"
    )
    found = [load(tmp_path / f"pairs.{kind}", **names, test_fraction=0.25) for kind in ("csv", "jsonl")]
    assert torch.equal(found[0].train.inputs["input_ids"], found[1].train.inputs["input_ids"])
    assert [len(found[0].train), len(found[0].test)] == [6, 2]
    row = found[0].train.labels.tolist().index(0)
    assert text_of(found[0].train.inputs, row) == "so, goodyes"
    assert found[0].train.inputs["token_type_ids"][row].tolist() == [0] * 10 + [1] * 4
    assert found[0].test.card["pairs"]


def test_long_sentences_are_cut_the_longer_of_a_pair_first(tmp_path):
    (tmp_path / "train.tsv").write_text(
        tsv([("abcdefgh", "xy", "0"), ("ab", "x", "1")] * 2, ("sentence1", "sentence2", "label")), encoding="utf-8"
    )
    (tmp_path / "dev.tsv").write_text(tsv([("a", "b", "0")], ("sentence1", "sentence2", "label")), encoding="utf-8")
    splits = load(tmp_path, max_length=8)
    assert text_of(splits.train.inputs, 0) == "abcxy"
    assert splits.notes == ("classes without test sentences: '1'",)


def test_batches_are_cut_to_their_longest_sentence(tmp_path):
    lengths = [3, 5, 9, 20]
    (tmp_path / "all.tsv").write_text(tsv([("a" * n, str(n % 2)) for n in lengths * 2]), encoding="utf-8")
    train = load(tmp_path / "all.tsv", test_fraction=0.2).train
    order = train.lengths.argsort(stable=True)
    shapes = [tuple(b.inputs["input_ids"].shape) for b in TensorLoader(train.subset(order), 2, shuffle=False).epoch(0)]
    assert [shape[1] for shape in shapes] == [8, 16, 22]
    for batch in TensorLoader(train, 3).epoch(0):
        assert batch.inputs["attention_mask"].sum(1).max() <= batch.inputs["input_ids"].shape[1]
        assert not any(one._is_view() for one in batch.inputs.values())


BAD = {
    "no label": (tsv([*TRAIN, ("what", "")]), r"train\.tsv, line 6 has no label"),
    "no sentence": (tsv([*TRAIN, ("", "1")]), r"line 6 has no sentence"),
    "a field too many": (tsv([*TRAIN, ("a", "1", "b")]), "line 6 has more fields"),
    "no such column": (
        tsv(TRAIN, ("words", "label")),
        r"no column 'sentence' or .*it has words, label.*data.sentence=",
    ),
    "one class": (tsv([("a", "1"), ("b", "1")]), "has 1 class to train on, '1'"),
    "numbers": (tsv([(f"s{n}", f"{n / 7:.3f}") for n in range(9)]), "a measured number and no class"),
    "no rows": ("sentence\tlabel\n", "holds no sentences"),
    "a class of dev that train lacks": (tsv(TRAIN[:1] + TRAIN[2:3] + [("x", "2")] * 2), r"dev\.tsv, line 3: class '0'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_line(folder, kind):
    content, message = BAD[kind]
    (folder / "train.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(AttarError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 3}, "at least 4 tokens"),
        ({"maxlength": 8}, "max_length"),
        ({"tokenizer": "/nowhere"}, "is no folder|needs transformers"),
        ({"label": "grade"}, "no column 'grade'"),
        ({"mixup": 0.2}, "data.mixup is for classified images"),
    ],
)
def test_bad_options_are_one_line(folder, options, message):
    with pytest.raises(AttarError, match=message):
        load(folder, **options)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no train file"),
        ({"train.tsv": ""}, "has no dev or test file"),
        ({"train.tsv": "", "training.csv": ""}, "for one role"),
        ({"train.tsv": b"\xff\xfe", "dev.tsv": ""}, "cannot be read"),
        ({"train.jsonl": "[1]", "dev.jsonl": "[1]"}, "line 1 is no JSON object"),
    ],
)
def test_folders_that_are_no_data_are_one_line(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AttarError, match=message):
        load(tmp_path)
    with pytest.raises(AttarError, match=r"is no \.tsv, \.csv, \.jsonl file"):
        load(__file__)


def test_the_tokens_of_a_folder_have_its_marks(folder, tmp_path):
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    names = {name: place for place, name in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "bad", "so", "good"])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    made.save_pretrained(tmp_path / "bare")
    made.pad_token = "[PAD]"
    made.save_pretrained(tmp_path / "words")
    splits = load(folder, tokenizer=str(tmp_path / "words"))
    assert splits.train.inputs["input_ids"][:2].tolist() == [[1, 5, 6, 2, 0, 0, 0], [1, 4, 2, 0, 0, 0, 0]]
    assert splits.train.network == {"vocab_size": 7, "pad_token_id": 0}
    with pytest.raises(AttarError, match="no token for padding"):
        load(folder, tokenizer=str(tmp_path / "bare"))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_scores_of_parts_are_those_of_sklearn_on_the_whole(classes):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(40, classes, generator=rng), torch.randint(classes, (40,), generator=rng)
    metrics = SentenceMetrics()
    for part in (slice(0, 7), slice(7, 40)):
        metrics.update(logits[part], Batch(logits[part], labels[part]), other=logits[part] + 1)
    found, predicted = metrics.compute(), logits.argmax(1)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, predicted))
    assert found["f1"] == pytest.approx(
        sklearn.f1_score(labels, predicted, average="binary" if classes == 2 else "macro")
    )
    assert found["matthews"] == pytest.approx(sklearn.matthews_corrcoef(labels, predicted))
    assert (found["agreement"], found["kl"]) == (1.0, pytest.approx(0, abs=1e-9))
    constant = SentenceMetrics()
    constant.update(torch.eye(classes)[[0, 0]], Batch(logits[:2], torch.tensor([0, 0])))
    assert constant.compute()["matthews"] == 0.0


def test_labels_of_a_sign_are_numbers():
    assert classes_of(Rows(labels=["1", "-1", "1"]), Path("data")) == ("-1", "1")
    assert classes_of(Rows(labels=["1", "\u00b2"]), Path("data")) == ("1", "\u00b2")


def test_a_byte_order_mark_and_odd_ends_of_lines_are_part_of_no_sentence(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        text, "encoder", lambda _: SimpleNamespace(encode=lambda firsts, *_: seen.extend(firsts) or 1 / 0)
    )
    (tmp_path / "a.txt").write_bytes("\ufeffone\u2028film\r\nthe other\n".encode())
    request = Request(torch.nn.Identity(), {"tokenizer": "bytes", "max_length": 8}, tmp_path / "a.txt")
    with pytest.raises(ZeroDivisionError):
        text.labelled(request)
    assert seen == ["one\u2028film", "the other"]
