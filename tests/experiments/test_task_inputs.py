"""What jobs of tasks refuse: bad files, unknown settings, and networks of another vocabulary than the data's."""

import io

import pytest
from rich.console import Console

import attar
from attar.data.sources.text import tokenizer
from text_runs import language

QUIET = Console(file=io.StringIO())

BAD = {
    "an empty text": (b"", {}, "has 0 tokens"),
    "a text shorter than a block": (b"short", {}, "a block 8 and its next"),
    "no UTF-8": (b"\xff\xfe" * 99, {}, "cannot be read as UTF-8"),
    "an unknown setting of the task": (b"abc " * 99, {"task": {"divergance": "js"}}, "did you mean 'divergence'"),
    "an unknown task": (b"abc " * 99, {"task": "langage"}, "did you mean 'language'"),
    "mixed images": (b"abc " * 99, {"data.mixup": 0.1}, "is for classified images"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line_before_anything_is_written(kind, tmp_path):
    content, changes, message = BAD[kind]
    (tmp_path / "text.txt").write_bytes(content)
    keys = language(tmp_path / "text.txt")
    for key, value in changes.items():
        section, _, name = key.partition(".")
        keys[section] = {**keys[section], name: value} if name else value
    with pytest.raises(attar.AttarError, match=message) as error:
        attar.distill(**keys, out=str(tmp_path / "run"), console=QUIET)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_another_vocabulary_and_another_tokenizer_than_the_datas_are_refused(tmp_path):
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, n_positions=16, vocab_size=300)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "large")
    text = tmp_path / "text.txt"
    text.write_text("abcd efgh. " * 60, encoding="utf-8")
    keys = {**language(text), "teacher": f"hf/{tmp_path / 'large'}"}
    with pytest.raises(attar.AttarError, match=r"vocabulary of 300 tokens, the data's tokenizer 256"):
        attar.distill(**keys, out=str(tmp_path / "run"), console=QUIET)
    config.vocab_size = 256
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "other")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{n}": n for n in range(256)}, unk_token="w0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path / "other")
    keys["teacher"] = f"hf/{tmp_path / 'other'}"
    with pytest.raises(attar.AttarError, match="has another tokenizer than the data"):
        attar.distill(**keys, out=str(tmp_path / "run"), console=QUIET)


def test_tokenizers_of_one_meaning_are_equal_wherever_they_lie(tmp_path):
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    orders = {"a": range(9), "same": range(9), "other": range(8, -1, -1)}
    for name, order in orders.items():
        words = tokenizers.models.WordLevel({f"w{n}": place for place, n in enumerate(order)}, unk_token="w4")
        held = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(words))
        held.save_pretrained(tmp_path / name)
    digests = {name: tokenizer(str(tmp_path / name)).digest for name in orders}
    assert digests["a"] == digests["same"]
    assert digests["a"] != digests["other"]  # every word of the usual sample text is unknown to both
