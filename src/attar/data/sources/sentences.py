"""Sentences, or pairs of them, with a label each: TSV, CSV or JSONL files, tokenised and padded."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

import torch
from torch import Tensor

from attar.batch import Address
from attar.data.sources.image_tree import listed
from attar.data.sources.split_names import by_role
from attar.data.sources.text import BYTES, tokenizer, tokenizer_of
from attar.data.tensor_set import TensorSet, TensorSplits
from attar.errors import AttarError, first_line

SUFFIXES = (".tsv", ".csv", ".jsonl")
# The columns that hold sentences and labels where the recipe names none.
SENTENCES, SECONDS, LABELS = ("sentence", "text", "sentence1"), ("sentence2",), ("label",)
REMEDY = "say which with data.sentence=, data.second= and data.label="
WHOLE = re.compile(r"[+-]?[0-9]+")
MEASURED = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)
# Byte tokens are 0 to 255; these follow them.
START, END, PAD = 256, 257, 258
# Of one file without others, what is tested on is drawn by this seed, so that it never depends on a run's.
TEST_SEED = 0


@dataclass
class Rows:
    """The labelled sentences of one file.

    Attributes:
        sentences: the first of each row.
        seconds: the second of each row; empty where there is none.
        labels: a label's text for each row.
        lines: where each row begins in the file, from 1.
    """

    sentences: list[str] = field(default_factory=list)
    seconds: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Encoder:
    """What turns sentences into token ids with the marks that a classifier expects around them.

    Attributes:
        size: how many tokens there are.
        padding: the token that fills up short sentences.
        encode: (sentences, seconds or none, longest) to the ids of each, and to which of two sentences each id belongs.
    """

    size: int
    padding: int
    encode: Callable[[list[str], list[str], int], tuple[list[list[int]], list[list[int]]]]


def encoder(name: str) -> Encoder:
    """The tokens of a local folder's tokenizer, or "bytes": those of UTF-8 between a start and an end.

    Raises:
        AttarError: the folder holds no tokenizer, or one without a token for padding; transformers is missing.

    >>> encoder("bytes").encode(["hi"], ["a"], 6)
    ([[256, 104, 105, 257, 97, 257]], [[0, 0, 0, 0, 1, 1]])
    """
    if name == BYTES:
        return Encoder(PAD + 1, PAD, encode_bytes)
    held = tokenizer_of(name)
    if held.pad_token_id is None:
        raise AttarError(
            f"the tokenizer {name} has no token for padding; give one that has, of a BERT-like network say"
        )

    def encode(sentences: list[str], seconds: list[str], longest: int) -> tuple[list[list[int]], list[list[int]]]:
        found = held(
            sentences,
            seconds or None,
            truncation=True,
            max_length=longest,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=True,
        )
        return found["input_ids"], found["token_type_ids"]

    return Encoder(len(held), int(held.pad_token_id), encode)


def encode_bytes(sentences: list[str], seconds: list[str], longest: int) -> tuple[list[list[int]], list[list[int]]]:
    """Bytes between marks; of a row that is too long, the longer sentence is cut until both fit."""
    ids, types = [], []
    for number, sentence in enumerate(sentences):
        parts = [list(sentence.encode()), *([list(seconds[number].encode())] if seconds else [])]
        while sum(map(len, parts)) > max(longest - 1 - len(parts), 0):
            max(parts, key=len).pop()
        ids.append([START, *(token for part in parts for token in (*part, END))])
        types.append([0, *(place for place, part in enumerate(parts) for _ in range(len(part) + 1))])
    return ids, types


def read_sentences(
    root: Path,
    tokens: str,
    columns: Mapping[str, str],
    max_length: int = 128,
    test_fraction: float = 0.1,
) -> TensorSplits:
    """The sets of a folder with train.tsv, dev.tsv and test.tsv, or of one file.

    Files are named after their part (train; dev, val or validation; test), with the suffix .tsv, .csv or .jsonl.
    Without a test file, the dev file is tested on and the validation set is drawn from the training file; of one file
    alone, a part drawn once for all is tested on. TSV files have no quotation marks, as GLUE's. The first line names
    the columns.

    Args:
        root: the folder or file.
        tokens: see `encoder`.
        columns: the names of the columns by "sentence", "second" and "label"; empty: the usual names.
        max_length: tokens of the longest sentence, with its marks; longer ones are cut.
        test_fraction: the part of a single file that is tested on.

    Raises:
        AttarError: a file is missing or damaged, a row lacks its label or sentence, or a class is not trained on.
    """
    if max_length < 4:
        raise AttarError(f"max_length must be at least 4 tokens, got {max_length}")
    files = split_files(root)
    rows = {role: read_rows(file, columns) for role, file in files.items()}
    if len(rows) == 1:
        rows = divided_rows(rows["train"], test_fraction, files["train"])
    elif "test" not in rows:
        rows["test"], files["test"] = rows.pop("val"), files.pop("val")
    paired = [role for role, one in rows.items() if one.seconds]
    if paired and len(paired) != len(rows):
        raise AttarError(f"{root}: some files have a second sentence and others none; {REMEDY}")
    classes = classes_of(rows["train"], root)
    for role, one in rows.items():
        check_classes(one, classes, files.get(role, files["train"]), role)
    vocabulary = encoder(tokens)
    encoded = {role: vocabulary.encode(one.sentences, one.seconds, max_length) for role, one in rows.items()}
    longest = max(len(ids) for found, _ in encoded.values() for ids in found)
    sets = {
        role: padded(encoded[role], rows[role], classes, longest, vocabulary, root.stem, tokens, max_length)
        for role in rows
    }
    lacking = sorted(set(classes) - set(rows["test"].labels))
    notes = (f"classes without test sentences: {listed(lacking)}",) if lacking else ()
    return TensorSplits(sets["train"], sets["test"], sets.get("val"), notes)


def split_files(root: Path) -> dict[str, Path]:
    """The file of each part: train, and perhaps val and test.

    Raises:
        AttarError: there is none, or two for one part.
    """
    if root.is_file():
        if root.suffix.lower() not in SUFFIXES:
            raise AttarError(
                f"{root} is no {', '.join(SUFFIXES)} file; give one, or a folder with train.tsv and dev.tsv"
            )
        return {"train": root}
    names = sorted(file.name for file in root.iterdir() if file.suffix.lower() in SUFFIXES) if root.is_dir() else []
    roles, _ = by_role(names, root, "files")
    if "train" not in roles or len(roles) == 1:
        raise AttarError(
            f"{root} has no {'train' if 'train' not in roles else 'dev or test'} file ({', '.join(SUFFIXES)}); give "
            "data.root=FOLDER with train.tsv and dev.tsv, or data.root=FILE"
        )
    return {role: root / name for role, name in roles.items()}


def read_rows(file: Path, columns: Mapping[str, str]) -> Rows:
    """The rows of one file, checked.

    Raises:
        AttarError: it is no UTF-8, lacks a column, or a row lacks its sentence or label.
    """
    found = Rows()
    reading = jsonl_rows if file.suffix.lower() == ".jsonl" else table_rows
    chosen: dict[str, str] | None = None
    try:
        for line, row in reading(file):
            chosen = columns_of(file, row, columns) if chosen is None else chosen
            enter(found, row, chosen, f"{file}, line {line}", line)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AttarError(f"{file} cannot be read ({first_line(error)}); save it as UTF-8 text") from None
    if not found.labels:
        raise AttarError(f"{file} holds no sentences; give it some rows below the names of its columns")
    return found


def table_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line and columns of each row of a TSV or CSV file."""
    tabbed = file.suffix.lower() == ".tsv"
    with file.open(newline="", encoding="utf-8-sig") as stream:
        settings: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabbed else {}
        rows = csv.DictReader(stream, **settings)
        line = 2
        for row in rows:
            yield line, row
            line = rows.line_num + 1


def jsonl_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line and entries of each object of a JSONL file.

    Raises:
        AttarError: a line is no JSON object.
    """
    with file.open(encoding="utf-8-sig") as stream:
        for line, text in enumerate(stream, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise AttarError(f"{file}, line {line} is no JSON object; write one a line")
            yield line, row


def columns_of(file: Path, row: Mapping[Any, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """The names of the columns "sentence", "label" and perhaps "second".

    Raises:
        AttarError: the file has none of that name, or only columns of other names.
    """
    held = [str(name) for name in row if name is not None]
    chosen = {}
    for role, usual in (("sentence", SENTENCES), ("second", SECONDS), ("label", LABELS)):
        named = columns.get(role, "")
        found = next((name for name in ((named,) if named else usual) if name in held), None)
        if found is not None:
            chosen[role] = found
        elif named or role != "second":
            wanted = repr(named) if named else " or ".join(map(repr, usual))
            raise AttarError(f"{file} has no column {wanted}, it has {', '.join(held)}; {REMEDY}")
    return chosen


def enter(rows: Rows, row: Mapping[Any, Any], columns: Mapping[str, str], where: str, line: int) -> None:
    """Enter one row.

    Raises:
        AttarError: it has more fields than the file has columns, or lacks one.
    """
    if None in row:
        raise AttarError(f"{where} has more fields than the first line names columns; mend or remove the line")
    for role, held in (("sentence", rows.sentences), ("second", rows.seconds), ("label", rows.labels)):
        if role not in columns:
            continue
        value = row.get(columns[role])
        text = "" if value is None else str(value).strip()
        if not text:
            raise AttarError(f"{where} has no {columns[role]}; give it one, or remove the line")
        held.append(normalize("NFC", text) if role == "label" else text)
    rows.lines.append(line)


def divided_rows(rows: Rows, test_fraction: float, file: Path) -> dict[str, Rows]:
    """The rows of a single file as a training and a test set.

    Raises:
        AttarError: the fraction is not between 0 and 1, or leaves one of them empty.
    """
    count = round(test_fraction * len(rows.labels)) if 0 < test_fraction < 1 else 0
    if not 0 < count < len(rows.labels):
        raise AttarError(
            f"test_fraction={test_fraction} of the {len(rows.labels)} rows of {file} leaves nothing to train or test "
            "on; give another between 0 and 1, or more rows"
        )
    order = torch.randperm(len(rows.labels), generator=Address(TEST_SEED).generator("test")).tolist()
    return {"train": chosen_rows(rows, sorted(order[count:])), "test": chosen_rows(rows, sorted(order[:count]))}


def chosen_rows(rows: Rows, places: Sequence[int]) -> Rows:
    """Some of the rows."""
    held = (rows.sentences, rows.seconds, rows.labels, rows.lines)
    return Rows(*([one[place] for place in places] if one else [] for one in held))  # type: ignore[arg-type]


def classes_of(train: Rows, root: Path) -> tuple[str, ...]:
    """The classes of the training set, numbers in their order first.

    Raises:
        AttarError: there is only one, or the labels are measured numbers.

    >>> classes_of(Rows(labels=["10", "9", "neutral", "-1"]), Path("data"))
    ('-1', '9', '10', 'neutral')
    """
    numbers = {label: int(label) for label in train.labels if WHOLE.fullmatch(label)}
    found = sorted(set(train.labels), key=lambda label: (label not in numbers, numbers.get(label, 0), label))
    if len(found) < 2:
        raise AttarError(f"{root} has 1 class to train on, {found[0]!r}; expected at least 2")
    if measured := next((label for label in found if MEASURED.fullmatch(label)), None):
        raise AttarError(f"{root} has the label {measured}, a measured number and no class; {REMEDY}")
    return tuple(found)


def check_classes(rows: Rows, classes: Sequence[str], file: Path, role: str) -> None:
    """Every label is one that is trained on.

    Raises:
        AttarError: one is not.
    """
    known = set(classes)
    for label, line in zip(rows.labels, rows.lines, strict=True):
        if label not in known:
            raise AttarError(
                f"{file}, line {line}: class {label!r} has {role} sentences but none to train on; the training set has "
                f"{listed(list(classes))}"
            )


def padded(
    encoded: tuple[list[list[int]], list[list[int]]],
    rows: Rows,
    classes: Sequence[str],
    longest: int,
    vocabulary: Encoder,
    name: str,
    tokens: str,
    max_length: int,
) -> TensorSet:
    """One set: input_ids, attention_mask and, of pairs, token_type_ids, all (N, longest)."""
    ids, types = encoded
    lengths = torch.tensor([len(one) for one in ids])
    number = {label: place for place, label in enumerate(classes)}
    inputs = named_inputs(ids, types if rows.seconds else [], longest, vocabulary.padding)
    return TensorSet(
        inputs,
        torch.tensor([number[label] for label in rows.labels]),
        name,
        outputs=len(classes),
        classes=tuple(classes),
        lengths=lengths,
        network={"vocab_size": vocabulary.size, "pad_token_id": vocabulary.padding},
        facts={**tokenizer(tokens).facts, "max_length": max_length, "pairs": bool(rows.seconds)},
    )


def named_inputs(
    ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]], longest: int, padding: int
) -> dict[str, Tensor]:
    """Token ids, filled up to one length, with the mask of those that are real.

    >>> named_inputs([[5, 6], [7]], [], 2, padding=0)["attention_mask"].tolist()
    [[1, 1], [1, 0]]
    """

    def filled(rows: Sequence[Sequence[int]], value: int) -> Tensor:
        return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])

    inputs = {"input_ids": filled(ids, padding), "attention_mask": filled([[1] * len(row) for row in ids], 0)}
    return inputs | ({"token_type_ids": filled(types, 0)} if types else {})
