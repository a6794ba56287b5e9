"""A text file as blocks of tokens, each with the tokens that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.data.tensor_set import TensorSet, TensorSplits
from attar.errors import AttarError, first_line
from attar.extras import require
from attar.records import read_json

BYTES = "bytes"
# Files that a tokenizer is read from, and a text that two tokenizers are compared on.
HELD = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
PROBE = "The quick brown fox, 0123456789: caf\u00e9!\n\tjumps over the lazy dog."


@dataclass(frozen=True)
class Tokenizer:
    """What turns text into token ids.

    Attributes:
        name: "bytes", or the folder it was read from.
        size: how many tokens there are.
        encode: text to ids.
        decode: ids to text.
        digest: follows from what each id means, so that equal tokenizers of different folders have the same.
    """

    name: str
    size: int
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    digest: str = BYTES

    @property
    def facts(self) -> dict[str, str]:
        """What the JSON beside a language model holds of its tokenizer."""
        return {"tokenizer": self.name, "tokenizer_digest": self.digest}


def tokenizer(name: str = BYTES) -> Tokenizer:
    """The tokenizer "bytes" (256 tokens, the bytes of UTF-8), or that of a local folder, read by transformers.

    Raises:
        AttarError: the folder holds none, or transformers is missing.

    >>> tokenizer().encode("hé"), tokenizer().size
    ([104, 195, 169], 256)
    """
    if name == BYTES:
        return Tokenizer(
            name, 256, lambda text: list(text.encode()), lambda ids: bytes(ids).decode("utf-8", errors="replace")
        )
    held = tokenizer_of(name)

    def encode(text: str) -> list[int]:
        return held.encode(text, add_special_tokens=False)

    meaning = (sorted(held.get_vocab().items()), encode(PROBE))
    return Tokenizer(
        name, len(held), encode, held.decode, hashlib.blake2b(repr(meaning).encode(), digest_size=8).hexdigest()
    )


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a local folder, as transformers reads it.

    Raises:
        AttarError: the folder holds none, or transformers is missing.
    """
    transformers = require("transformers", f"the tokenizer {name}", "text")
    if not Path(name).expanduser().is_dir():
        raise AttarError(f"tokenizer={name} is no folder; give bytes, or a folder written by save_pretrained")
    try:
        return transformers.AutoTokenizer.from_pretrained(Path(name).expanduser(), local_files_only=True)
    except (OSError, ValueError) as error:
        raise AttarError(f"{name} holds no tokenizer: {first_line(error)}") from None


def check_tokenizer(facts: Mapping[str, Any], folder: Path) -> None:
    """Refuse a language model whose folder holds another tokenizer than the data's; without one nothing is known.

    Args:
        facts: of the data's, see `Tokenizer.facts`.
        folder: of the language model.

    Raises:
        AttarError: the two turn a text into other ids.
    """
    if any((folder / name).is_file() for name in HELD):
        _check_equal(facts, tokenizer(str(folder)).facts, str(folder))


def check_tokenizer_of_weights(facts: Mapping[str, Any], weights: Path) -> None:
    """Refuse weights that were trained with another tokenizer, where the JSON beside them has a record of it.

    Raises:
        AttarError: the two turn a text into other ids.
    """
    card = weights.with_suffix(".json")
    if not card.is_file():
        return
    held = read_json(card, "train or export the weights again, or move it away")
    if isinstance(held, dict) and "tokenizer_digest" in held:
        _check_equal(facts, held, str(weights))


def _check_equal(ours: Mapping[str, Any], theirs: Mapping[str, Any], what: str) -> None:
    if ours["tokenizer_digest"] != theirs["tokenizer_digest"]:
        raise AttarError(
            f"{what} has another tokenizer than the data ({ours['tokenizer']}): ids would mean other tokens; "
            f"give data.tokenizer={theirs['tokenizer']}, or a model of the data's tokenizer"
        )


def read_text(
    file: Path, block_size: int = 128, tokens: str = BYTES, val_fraction: float = 0.05, test_fraction: float = 0.1
) -> tuple[TensorSplits, float]:
    """A text in blocks of tokens, and how many characters a token of the test part has on average.

    The last part of the text is the test set, the part before it the validation set: neighbouring blocks of one text
    are too alike to be drawn apart at random.

    Args:
        file: UTF-8 text.
        block_size: tokens of a sequence; a block's labels are its tokens moved by one.
        tokens: see `tokenizer`.
        val_fraction: the part of the rest that is kept apart for validation.
        test_fraction: the part of the text that is tested on.

    Raises:
        AttarError: the file is missing, no UTF-8 or too short.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AttarError(f"{file} cannot be read as UTF-8 text ({first_line(error)}); give data.root=FILE") from None
    if block_size < 1:
        raise AttarError(f"block_size must be at least 1 token, got {block_size}")
    if not 0 < test_fraction < 1:
        raise AttarError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    vocabulary = tokenizer(tokens)
    cut = round(len(text) * (1 - test_fraction))
    middle = round(cut * (1 - val_fraction))
    parts = {"train": text[:middle], "val": text[middle:cut], "test": text[cut:]}
    ids = {role: torch.tensor(vocabulary.encode(part), dtype=torch.int64) for role, part in parts.items()}
    for role, found in ids.items():
        if len(found) <= block_size and (role != "val" or val_fraction):
            raise AttarError(
                f"the {role} part of {file.name} has {len(found)} tokens, a block {block_size} and its next; give more "
                "text or a smaller data.block_size"
            )
    sets = {role: blocks(found, block_size, file.name, vocabulary.size) for role, found in ids.items() if len(found)}
    sets = {role: replace(one, facts=vocabulary.facts) for role, one in sets.items()}
    return TensorSplits(sets["train"], sets["test"], sets.get("val")), len(parts["test"]) / len(ids["test"])


def blocks(ids: Tensor, size: int, name: str, vocabulary: int) -> TensorSet:
    """Consecutive blocks (N, size) with the token that follows each; what is left at the end is dropped.

    >>> found = blocks(torch.arange(8), 3, "eight", vocabulary=8)
    >>> found.inputs.tolist(), found.labels.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    count = (len(ids) - 1) // size
    shown, following = (ids[start : start + count * size].view(count, size) for start in (0, 1))
    return TensorSet(shown, following, name, vocabulary)
