"""The report of a run: whole, offline, true to results.json, and made of whatever the run kept."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from attar.data import ImageSet
from attar.errors import AttarError
from attar.report import run_page
from attar.report.run_files import read_run
from attar.report.run_page import write_report
from attar.report.thumbnails import FILE, png, save_pictures, shown

HOSTILE = "<b>&\"'</b><script>alert(1)</script>"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Reads a page; tags that do not match fail."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.rows, self.titles, self.attributes = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "h2":
            self.titles.append("")

    def handle_startendtag(self, tag, attrs):
        assert tag in {"path", "circle", "rect"}, f"<{tag}/> is no element of SVG"
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.open and self.open[-1] == "h2":
            self.titles[-1] += data

    def row(self, name):
        """The first row of a table with this head."""
        return next(row for row in self.rows if row[0] == name)


def report_of(made):
    text = write_report(made.folder).read_text(encoding="utf-8")
    return Page(text), text


def keep_pictures(made, size=8, channels=3):
    pixels = torch.arange(120 * channels * size * size).reshape(120, channels, size, size).remainder(251).byte()
    labels = torch.from_numpy(made.labels.astype("int64"))
    images = ImageSet(pixels, labels, tuple(made.names), "set", (0.5,) * channels, (0.25,) * channels)
    save_pictures(read_run(made.folder), images)
    return pixels


SECTIONS = [
    "Scores", "Cost", "How it learnt", "Who taught what", "Who teaches whom", "Can its confidence be believed?",
    "Class by class", "What is taken for what", "Where teacher and student disagree", "Recipe", "Environment", "Again",
]  # fmt: skip


def test_every_section_is_there_in_order(made_run):
    made = made_run(seeds=3)
    keep_pictures(made)
    page, text = report_of(made)
    assert page.titles == SECTIONS
    assert text.startswith("<!doctype html>")
    assert len(text) < 300_000


def test_it_needs_nothing_from_outside(made_run):
    made = made_run()
    keep_pictures(made)
    page, text = report_of(made)
    links = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert links
    assert all(value.startswith("data:image/png;base64,") for value in links)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)|<link|<script|<iframe|https?://(?!www\.w3\.org/2000/svg)", text)
    assert {"svg", "title"} <= set(page.tags)


def test_names_are_shown_as_text(made_run):
    made = made_run("a <b> run", names=[HOSTILE, "</style>", *"cdefgh"])
    keep_pictures(made)
    page, text = report_of(made)
    assert "script" not in page.tags
    assert "<i>a" not in text
    assert text.count("<style") == 1 == text.count("</style>")
    assert "&lt;script&gt;alert(1)" in text
    assert "&lt;i&gt;a&lt;/i&gt;" in text
    assert HOSTILE not in text


def test_the_numbers_are_those_of_the_results(made_run):
    made = made_run(seeds=1)
    page, _ = report_of(made)
    for label, entry in (("resnet56 (teacher)", made.teachers[0]), ("resnet20 with kd", made.runs[0]["student"])):
        scores, cost = entry["scores"], entry["cost"]
        row = page.row(label)
        assert row[1] == f"{100 * scores['top1']:.2f}"
        assert row[4:6] == [f"{scores['nll']:.3f}", f"{100 * scores['ece']:.1f}"]
        below = [row for row in page.rows if row[0] == label][1]
        assert below[1] == f"{cost['parameters']:,}"
        assert below[3] == f"{cost['latency_ms']:.2f} ({cost['latency_spread_ms']:.2f})"


def test_several_seeds_show_their_mean_and_its_interval(made_run):
    made = made_run(seeds=3)
    page, text = report_of(made)
    tops = [100 * run["student"]["scores"]["top1"] for run in made.runs]
    mean, half = np.mean(tops), 4.302653 * np.std(tops, ddof=1) / 3**0.5
    row = page.row("resnet20 with kd")
    assert row[1] == f"{mean:.2f} ± {np.std(tops, ddof=1):.2f}"
    assert row[2] == f"{mean - half:.2f} to {mean + half:.2f}"
    assert "faint" in text.split("</style>")[1]  # every seed's curve behind the mean


def test_a_run_of_an_older_version_keeps_the_parts_that_exist(made_run):
    made = made_run(seeds=2)
    for file in [*made.folder.rglob("predictions.npz"), made.folder / "graph.svg", made.folder / "environment.json"]:
        file.unlink()
    page, _ = report_of(made)
    gone = {"Who teaches whom", "Can its confidence be believed?", "What is taken for what", "Environment"}
    assert page.titles == [name for name in SECTIONS if name not in gone | {"Where teacher and student disagree"}]
    for file in made.folder.rglob("metrics.jsonl"):
        file.unlink()
    assert "How it learnt" not in report_of(made)[0].titles


def test_a_network_trained_on_labels_alone(made_run):
    made = made_run(teacher=None, alone=False)
    keep_pictures(made)
    assert not (made.folder / FILE).exists()
    page, text = report_of(made)
    top1 = f"{100 * made.runs[0]['student']['scores']['top1']:.2f}"
    assert page.row("resnet20 trained")[1] == top1
    del made.runs[0]["student"]["scores"]["agreement"]
    (made.folder / "results.json").write_text(json.dumps({"teachers": [], "runs": made.runs}))
    assert any("agrees" in cell for row in page.rows for cell in row)
    again = report_of(made)[0].rows  # nobody to agree with
    assert not any("agrees" in cell for row in again for cell in row)
    assert f"resnet20 trained on the test set: top-1 {top1}\N{NO-BREAK SPACE}%." in text
    assert "Class by class" in page.titles
    assert "its differences" not in text
    assert "the others make them" not in text
    assert "attar train run/recipe.yaml" in text


def test_the_headline_is_the_students_not_its_peers(made_run):
    made = made_run(teacher=None)
    tree = json.loads((made.folder / "results.json").read_text())
    tree["runs"][0]["peer1"] = made.network("peer1", made.folder / "elsewhere", 0.99)
    (made.folder / "results.json").write_text(json.dumps(tree))
    page, text = report_of(made)
    top1 = f"{100 * made.runs[0]['student']['scores']['top1']:.2f}"
    assert f'<dd class="big main">{top1} %</dd>' in text
    assert "points over the student alone" in text
    assert page.row("peer1")[1] != top1


def test_a_student_that_is_slower_than_its_teacher_is_called_so(made_run):
    made = made_run()
    tree = json.loads((made.folder / "results.json").read_text())
    tree["teachers"][0]["cost"]["latency_ms"], tree["runs"][0]["student"]["cost"]["latency_ms"] = 1.0, 2.5
    (made.folder / "results.json").write_text(json.dumps(tree))
    text = report_of(made)[1]
    assert '<dt>slower</dt><dd class="big">2.5\N{MULTIPLICATION SIGN}</dd>' in text
    assert "2.5 times slower" in text


def test_of_many_classes_the_ends_are_shown(made_run):
    made = made_run(names=[f"a rather long name of a class {n}" for n in range(100)])
    keep_pictures(made, size=32)
    page, text = report_of(made)
    per_class = [made.runs[0][key]["scores"]["per_class"] for key in ("student", "alone")]
    gaps = sorted((a - b for a, b in zip(*per_class, strict=True)), reverse=True)
    chart = text[text.index("<title>Distilled \N{MINUS SIGN} alone</title>") :].split("</svg>")[0]
    shown_gaps = re.findall(r"class \d+: ([+\N{MINUS SIGN}]?[\d.]+)</title>", chart)
    wanted = [f"{100 * gap:+.1f}".replace("-", "\N{MINUS SIGN}") if gap else "0" for gap in gaps[:10] + gaps[-10:]]
    assert shown_gaps == wanted
    assert len(text) < 600_000
    assert page.tags.count("img") == 24


def test_a_class_without_images_has_no_bar_and_one_never_answered_is_no_problem(made_run):
    made = made_run(names=[f"kind{n}" for n in range(130)])  # 120 images: the last ten classes have none
    page, text = report_of(made)
    assert "Class by class" in page.titles
    assert "of 120 classes" in text


def test_a_damaged_file_is_named(made_run):
    made = made_run()
    (made.folder / "predictions.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(AttarError, match=r"predictions\.npz.*delete it"):
        write_report(made.folder)


@pytest.mark.parametrize("name", ["results.json", "recipe.yaml"])
def test_an_unfinished_run_is_refused(made_run, name):
    made = made_run()
    (made.folder / name).unlink()
    with pytest.raises(AttarError, match=f"no finished run \\(no {name}\\)"):
        write_report(made.folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"teachers": [], "runs": []}', '{"teachers": [{}], "runs": [{}]}'])
def test_results_that_cannot_be_read_are_refused(made_run, text):
    made = made_run()
    (made.folder / "results.json").write_text(text)
    with pytest.raises(AttarError, match=r"results\.json"):
        write_report(made.folder)


def test_pictures_are_the_furthest_apart_where_the_answers_differ(made_run):
    made = made_run()
    run = read_run(made.folder)
    numbers = shown(run)
    student, teacher = run.predictions("student")[0], run.predictions("teacher")[0]
    differ = np.flatnonzero(student.predicted != teacher.predicted)
    assert len(numbers) == 24 < len(differ)
    assert set(numbers) <= set(differ)
    assert student.kl[numbers].min() >= student.kl[[n for n in differ if n not in numbers]].max()
    pixels = keep_pictures(made)
    page, _ = report_of(made)
    kept = [value for name, value in page.attributes if name == "src"]
    assert decoded(kept[0]) == pixels[numbers[0]].permute(1, 2, 0).reshape(-1).tolist()


def decoded(uri):
    """The pixels of an 8-bit PNG whose rows have no filter."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    raw = zlib.decompress(data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8])
    row = len(raw) // height
    assert (row - 1) % width == 0
    return [byte for n in range(height) for byte in raw[n * row + 1 : (n + 1) * row]]


def test_large_pictures_are_made_small(made_run):
    made = made_run()
    keep_pictures(made, size=96, channels=1)
    with np.load(made.folder / FILE) as held:
        assert held["pixels"].shape == (24, 1, 48, 48)


@pytest.mark.parametrize("channels", [1, 3])
def test_other_readers_can_open_the_pictures(channels):
    image = pytest.importorskip("PIL.Image")
    io = pytest.importorskip("io")
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), np.uint8)
    read = np.asarray(image.open(io.BytesIO(png(pixels))))
    assert np.array_equal(read.reshape(5, 7, channels), pixels.transpose(1, 2, 0))


def test_the_environment_spells_out_how_a_teacher_computes():
    engines = [{"kind": "folded", "dtype": "float32", "cut": False}, {"kind": "int8", "dtype": "", "cut": True}]
    page = run_page._environment({"runtime": {"teacher_threads": 2, "teachers": engines, "reason": "one\ntwo"}})
    assert "<dt>runtime teachers</dt><dd>folded float32, int8 cut</dd>" in page
    assert "<dt>runtime teacher threads</dt>" in page
    assert "<dd>one; two</dd>" in page
