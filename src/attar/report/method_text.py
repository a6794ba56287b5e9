"""One method explained: its docstring in paragraphs of any width, its options, its edges, as text and as a page."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from torch import nn

from attar.knowledge import Graph
from attar.methods import Method, create_method, list_methods, method_info
from attar.methods.common.runs_on import pairs_of
from attar.methods.registry import MethodInfo
from attar.models import create_model
from attar.report.drawing import svg
from attar.report.method_records import ACCURACY, costs, step_text
from attar.report.published import published
from attar.report.tables import Table

# What a heading of a docstring's section is.
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns):$")
ENTRY = re.compile(r"^    (\w+): ")
EXAMPLE = ">>>"
TEACHER, STUDENT = "resnet14", "resnet8"


def paragraphs(doc: str) -> list[str]:
    """A docstring as paragraphs of one line each; sections, their entries and examples begin lines of their own.

    >>> paragraphs("One line\\nand more.\\n\\nArgs:\\n    a: the first\\n        of two.\\n    b: the other.")
    ['One line and more.', 'Args:', '    a: the first of two.', '    b: the other.']
    """
    found: list[str] = []
    joins = False
    for line in doc.splitlines():
        text = line.strip()
        starts = not joins or SECTION.match(line) or ENTRY.match(line) or text.startswith(EXAMPLE)
        if not text:
            joins = False
            continue
        if starts:
            found.append(line.rstrip() if ENTRY.match(line) else text)
        else:
            found[-1] += f" {text}"
        joins = not SECTION.match(line) and not text.startswith(EXAMPLE)
    return found


def reflowed(doc: str, width: int) -> str:
    """A docstring without its examples, at a width; entries of a section are indented.

    >>> print(reflowed("A sentence that is\\nbroken.\\n\\nArgs:\\n    a: the first of two things.", 24))
    A sentence that is
    broken.
    <BLANKLINE>
    Args:
        a: the first of two
            things.
    """
    blocks: list[str] = []
    for text in paragraphs(without_examples(doc)):
        indent = "    " if text.startswith("    ") else ""
        lines = textwrap.fill(
            text.strip(),
            max(width, 20),
            initial_indent=indent,
            subsequent_indent=indent * 2,
            break_long_words=False,
            break_on_hyphens=False,
        )
        # A section's entries follow its heading and each other without a gap.
        blocks.append(lines if indent or not blocks else f"\n{lines}")
    return "\n".join(blocks)


def without_examples(doc: str) -> str:
    """The docstring up to its first example."""
    return doc.partition(f"\n\n{EXAMPLE}")[0]


def example_graph(name: str) -> Graph:
    """Who teaches whom in a method, between two small networks."""
    return example(name).graph


def example(name: str) -> Method:
    """A method, or several joined by "+", around two small networks: transformers where it compares their layers."""
    infos = [method_info(one.strip()) for one in name.split("+")]
    layers = any("layers" in info.needs for info in infos)
    teacher, student = (vit(depth) for depth in (4, 2)) if layers else map(create_model, (TEACHER, STUDENT))
    takes_teacher = any(info.takes_teacher for info in infos)
    return create_method(name, teacher=teacher if takes_teacher else None, student=student)


def vit(depth: int) -> nn.Module:
    """A small vision transformer."""
    sizes: dict[str, Any] = {"patch_size": 8, "embed_dim": 8, "num_heads": 2, "input_size": 16}
    return create_model("timm/vit_tiny_patch16_224", image_size=16, depth=depth, **sizes)


def title_of(info: MethodInfo) -> str:
    """Name, title and where it was published."""
    return f"{info.name}: {info.title}" + (f" ({published_in(info)})" if info.paper else "")


def published_in(info: MethodInfo) -> str:
    """The paper and its year.

    >>> published_in(method_info("kd")), published_in(method_info("norm"))
    ('arXiv:1503.02531, 2015', 'ICLR 2023')
    """
    return info.paper if info.paper.endswith(str(info.year)) else f"{info.paper}, {info.year}"


def explained(name: str, width: int) -> str:
    """The text of one method, or of several joined by "+": docstring, options, edges.

    Raises:
        AttarError: an unknown method, or methods that do not join.
    """
    blocks = []
    for one in name.split("+"):
        info = method_info(one.strip())
        prefix = f"method.{info.name}." if "+" in name else "method."
        options = [f"  {prefix}{option}={default_text(default)}" for option, default in info.defaults.items()]
        family = f"{info.family}; needs {', '.join(info.needs)}"
        text = reflowed(doc_of(info), width)
        facts = [textwrap.fill(fact, max(width, 20)) for fact in figures(info.name)]
        blocks.append("\n".join([title_of(info), family, "", text, "", *options, *([""] if facts else []), *facts]))
    return "\n\n".join([*blocks, example_graph(name).mermaid()])


def doc_of(info: MethodInfo) -> str:
    """The docstring of a method's class, or its title."""
    return inspect.getdoc(info.cls) or info.title


def default_text(default: Any) -> str:
    """A default as a recipe writes it; nothing where there is none.

    >>> default_text(4.0), default_text(None), default_text(inspect.Parameter.empty)
    ('4.0', 'null', '')
    """
    if default is inspect.Parameter.empty:
        return ""
    return "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def figures(name: str) -> list[str]:
    """What a step costs, and the published top-1 of each pair, a sentence each; nothing where they are not known."""
    facts = []
    if record := costs().get(name):
        facts.append(cost_sentence(name, record))
    if found := published()["methods"].get(name):
        pairs = "; ".join(f"{pair}: {top1:.2f}" for pair, top1 in found["top1"].items())
        facts.append(f"Published top-1, CIFAR-100 unless ImageNet is named: {pairs} ({'; '.join(found['sources'])}).")
    return facts


def cost_sentence(name: str, record: Mapping[str, float]) -> str:
    """The record of a method's step in words."""
    pair = "two small ViTs" if "layers" in method_info(name).needs else "resnet20 to resnet8"
    extra = int(record["extra"])
    parameters = "1 parameter" if extra == 1 else f"{extra:,} parameters"
    return (
        f"A step takes {step_text(name, record['step'])} times a step of kd and trains {parameters} beside the "
        f"student's ({pair}, benchmarks/step_cost.py, {ACCURACY})."
    )


def method_page(name: str, measurements: str = "") -> str:
    """The page of a method in Markdown: what it is, its formula, options, drawing, and numbers.

    Args:
        name: the method.
        measurements: Markdown with tables of what was measured here, of which the method's rows are shown.
    """
    info = method_info(name)
    paper = published_in(info) if info.paper else "none"
    if info.paper.startswith("arXiv:"):
        link = f"[{info.paper}](https://arxiv.org/abs/{info.paper.removeprefix('arXiv:')})"
        paper = paper.replace(info.paper, link)
    facts = Table("", ["", ""], [["paper", paper], ["family", info.family],
                                 ["needs", ", ".join(info.needs)]], texts=2)  # fmt: skip
    body, sections = split_sections(without_examples(doc_of(info)))
    meaning = dict(sections.get("Args", []))
    shown = [option for option in info.defaults if option != "image_shape"]
    options = [
        [f"`method.{one}`", f"`{default_text(info.defaults[one])}`", escaped(meaning.get(one, ""))] for one in shown
    ]
    parts = [f"# {info.name}", info.title, facts.markdown(), *map(escaped, body)]
    if options:
        parts += ["## Options", Table("", ["option", "default", "meaning"], options, texts=3).markdown()]
    parts += ["## Who teaches whom", f'<div class="graph">\n{svg(example_graph(name))}</div>']
    parts += numbers(info.name, measurements)
    parts += ["## Run it", f"```sh\n{command(info)}\n```"]
    return "\n\n".join(parts) + "\n"


def command(info: MethodInfo) -> str:
    """How to run a method on the command line, with networks that it runs on.

    >>> command(method_info("camkd"))
    'attar distill teacher=resnet56,resnet44 student=resnet20 data=cifar100 method=camkd'
    """
    pairs = pairs_of(info.needs)
    teachers = f"{pairs.teacher},resnet44" if info.cls.many_teachers else pairs.teacher
    networks = [f"teacher={teachers}"] if info.takes_teacher else []
    networks += [
        f"student={pairs.student}",
        *(f"student.options.{key}={value}" for key, value in pairs.options.items()),
    ]
    return f"attar distill {' '.join(networks)} data=cifar100 method={info.name}"


def numbers(name: str, measurements: str) -> list[str]:
    """The sections on a method's accuracy, published and measured here, and on what a step of it costs."""
    parts = []
    known = published()
    if record := known["methods"].get(name):
        rows = [
            [pair, f"{known['teacher'][pair]:.2f}", f"{known['student'][pair]:.2f}", f"{top1:.2f}"]
            for pair, top1 in record["top1"].items()
        ]
        table = Table("", ["teacher, student", "teacher", "student alone", "published"], rows)
        sources = "; ".join(record["sources"])
        parts += ["## Published top-1", table.markdown(), f"CIFAR-100 unless ImageNet is named. Sources: {sources}."]
    if tables := own_rows(name, measurements):
        protocols = (
            "With the protocols of [measurements](../../measurements.md), which are shorter than the published ones."
        )
        parts += ["## Measured here", *tables, protocols]
    if cost := costs().get(name):
        parts += ["## What a step costs", cost_sentence(name, cost)]
    return parts


def own_rows(name: str, measurements: str) -> list[str]:
    """The tables of a page in Markdown that have rows of a method, by the first word of each row, cut to those rows.

    >>> own_rows("kd", "| pair | top-1 |\\n|---|---:|\\n| dkd | 3 |\\n| kd T=4 | 2 |")
    ['| pair | top-1 |\\n|---|---:|\\n| kd T=4 | 2 |']
    """
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", measurements, flags=re.M):
        head, line, *rows = block.strip().split("\n")
        if own := [row for row in rows if re.match(rf"\| {re.escape(name)}[ ']", row)]:
            found.append("\n".join([head, line, *own]))
    return found


def split_sections(doc: str) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """The paragraphs before a docstring's sections, and the (name, text) entries of each section."""
    body: list[str] = []
    sections: dict[str, list[tuple[str, str]]] = {}
    entries: list[tuple[str, str]] | None = None
    for text in paragraphs(doc):
        if heading := SECTION.match(text):
            entries = sections.setdefault(heading[1], [])
        elif entries is not None and text.startswith("    "):
            name, _, meaning = text.strip().partition(": ")
            entries.append((name, meaning))
        else:
            entries = None
            body.append(text)
    return body, sections


def escaped(text: str) -> str:
    """A paragraph of a docstring as Markdown: stars, bars and underscores outside backticks mean themselves.

    >>> escaped("KL(q <- p) * w_1 of `a_b`")
    'KL(q &lt;- p) \\\\* w\\\\_1 of `a_b`'
    """
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_|>\[\]])", r"\\\1", part).replace("<", "&lt;")
        for part in re.split(r"(`[^`]*`)", text)
    )


def own_names() -> list[str]:
    """The methods that come with the package."""
    return [name for name in list_methods() if method_info(name).cls.__module__.startswith("attar.methods.")]
