"""The sections of a report that look at single classes and single images."""

from __future__ import annotations

from html import escape
from statistics import fmean
from typing import Any

import numpy as np

from attar.metrics.confusions import confusion_counts, confusions, reliability_bins
from attar.metrics.predictions import Predictions
from attar.report import html
from attar.report.axes import MINUS
from attar.report.charts import bars, reliability
from attar.report.run_files import RunFiles
from attar.report.tables import Table
from attar.report.thumbnails import data_uri, load_pictures

MAIN = ("teacher", "alone", "student")
# Of many classes so many at either end are shown; so many confusions.
EXTREMES, PAIRS = 10, 10
# Of more classes the table has those in which the student is worst; a matrix of more is no picture.
CLASSES, MATRIX = 20, 20
CROSS = "\u00d7\u00a0"


def prediction_sections(run: RunFiles) -> list[str]:
    """Calibration, classes, confusions and disagreements, as far as the run kept what they need."""
    networks = {network.key: network for network in run.summary.networks() if network.key in MAIN}
    predictions = {key: found for key in networks if (found := run.predictions(key))}
    return [
        _calibration(networks, predictions),
        _classes(run, networks, predictions),
        _confusions(run, predictions),
        _pictures(run, predictions),
    ]


def _calibration(networks: dict[str, Any], predictions: dict[str, list[Predictions]]) -> str:
    drawings = []
    for key, found in predictions.items():
        error = 100 * fmean(result.scores["ece"] for result in networks[key].results)
        drawing = reliability(f"Reliability of {networks[key].label}", key, reliability_bins(found))
        drawings.append(html.figure(networks[key].label, f"ECE {error:.1f} %", drawing))
    return html.section(
        "Can its confidence be believed?",
        "Accuracy within bins of confidence. Bars below the dashed line promise more than they hold; the stronger a "
        "bar, the more images are in it. ECE is the mean distance from the line.",
        html.grid(drawings),
    )


def _classes(run: RunFiles, networks: dict[str, Any], predictions: dict[str, list[Predictions]]) -> str:
    if "per_class" not in networks["student"].results[0].scores:
        return ""
    own = _per_class(networks["student"].results)
    drawings = []
    for key, caption in (("alone", "Distilled - alone"), ("teacher", "Distilled - teacher")):
        if key not in networks:
            continue
        other = _per_class(networks[key].results)
        gaps = [
            (run.classes[n], a - b)
            for n, (a, b) in enumerate(zip(own, other, strict=True))
            if a is not None and b is not None
        ]
        gaps.sort(key=lambda row: -row[1])
        better, worse = sum(gap > 0 for _, gap in gaps), sum(gap < 0 for _, gap in gaps)
        rows: list[tuple[str, float] | None] = [*gaps]
        if len(gaps) > 2 * EXTREMES:
            rows = [*gaps[:EXTREMES], None, *gaps[-EXTREMES:]]
        caption = caption.replace("-", MINUS)
        note = f"better in {better}, worse in {worse} of {len(gaps)} classes"
        drawings.append(html.figure(caption, note, bars(caption, rows, f"points of {run.summary.measure.label}")))
    content = _class_table(run, {key: _per_class(networks[key].results) for key in networks}, predictions)
    few = f" of the {len(content.rows)} classes in which the student is worst" if len(content.rows) < len(own) else ""
    gaps_too = ", and its differences" if drawings else ""
    lede = f"Accuracy within each class of the test set in per cent{few}{gaps_too}."
    return html.section("Class by class", lede, html.table(content), html.grid(drawings))


def _class_table(
    run: RunFiles, shares: dict[str, list[float | None]], predictions: dict[str, list[Predictions]]
) -> Table:
    """The accuracy of each network in each class; of many classes those in which the student is worst."""
    order = [key for key in MAIN if key in shares]
    found = predictions.get("student")
    counts = np.bincount(found[0].labels, minlength=len(run.classes)).tolist() if found else []
    own = [101.0 if share is None else share for share in shares["student"]]
    numbers = list(range(len(own)))
    if len(own) > CLASSES:
        numbers = sorted(numbers, key=own.__getitem__)[:CLASSES]
    rows = [
        [_class(run, n), f"{counts[n]:,}" if counts else ""]
        + ["" if (share := shares[key][n]) is None else f"{share:.1f}" for key in order]
        for n in numbers
    ]
    heads = {"teacher": "teacher %", "alone": "alone %", "student": "distilled %"}
    if "teacher" not in shares and "alone" not in shares:
        heads["student"] = run.summary.measure.title
    return Table("", ["", run.summary.scoring.samples, *(heads[key] for key in order)], rows)


def _matrix(run: RunFiles, found: list[Predictions]) -> str:
    """The confusion matrix of the first seed's student as a table whose cells are the fuller the stronger."""
    count = len(run.classes)
    if not 1 < count <= MATRIX:
        return ""
    table = confusion_counts(found[0], count)
    rows = [[_class(run, n), *map(str, row)] for n, row in enumerate(table.tolist())]
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    return html.heat_table(Table("", ["true class", *run.classes], rows), shares.tolist())


def _per_class(results: list[Any]) -> list[float | None]:
    """Top-1 of each class in per cent, the mean over the seeds; None where the test set has no such image."""
    columns = zip(*(result.scores["per_class"] for result in results), strict=True)
    return [None if None in column else 100 * fmean(column) for column in columns]


def _confusions(run: RunFiles, predictions: dict[str, list[Predictions]]) -> str:
    if "student" not in predictions:
        return ""
    counts = {key: confusions(found) for key, found in predictions.items()}
    order = [key for key in ("student", "alone", "teacher") if key in counts]
    digits = {key: 0 if len(predictions[key]) == 1 else 1 for key in order}
    rows = [
        [_class(run, truth), _class(run, predicted)]
        + [f"{counts[key].get((truth, predicted), 0.0):.{digits[key]}f}" for key in order]
        for truth, predicted in list(counts["student"])[:PAIRS]
    ]
    names = {"student": "distilled", "alone": "alone", "teacher": "teacher"}
    content = Table("", ["an image of", "is taken for", *(names[key] for key in order)], rows, texts=2)
    seeds = " (the mean over the seeds)" if len(predictions["student"]) > 1 else ""
    matrix = _matrix(run, predictions["student"])
    first = f" of seed {run.seeds[0]}" if len(run.seeds) > 1 else ""
    too = ", and how often the others make them" if len(order) > 1 else ""
    lede = f"The student's commonest mistakes in images of the test set{seeds}{too}."
    if matrix:
        lede = f"The student's confusion matrix{first}, true classes down and predicted ones across. {lede}"
    return html.section("What is taken for what", lede, matrix, html.table(content) if rows else "")


def _pictures(run: RunFiles, predictions: dict[str, list[Predictions]]) -> str:
    kept = load_pictures(run.folder)
    if not kept or not {"student", "teacher"} <= predictions.keys():
        return ""
    student, teacher = predictions["student"][0], predictions["teacher"][0]
    parts = []
    for number, (pixels, name) in kept.items():
        if number >= min(len(student), len(teacher)):
            continue
        truth = int(student.labels[number])
        lines = [f'<p class="truth"><span>{escape(_class(run, truth))}</span>truth</p>']
        for kind, network in (("teacher", teacher), ("student", student)):
            predicted, share = int(network.predicted[number]), 100 * float(network.confidence[number, 0])
            wrong = "" if predicted == truth else CROSS
            taken = escape(_class(run, predicted))
            lines.append(f'<p class="{kind}" title="{kind}: {taken}"><span>{wrong}{taken}</span>{share:.0f} %</p>')
        label = escape(name or f"test image {number}")
        shown = f'<p class="file" title="{label}"><span>{label}</span></p>'
        picture = f'<img alt="{label}" title="{label}" src="{data_uri(pixels)}">'
        parts.append(f"<figure>{picture}{shown}{''.join(lines)}</figure>")
    seed = f" (seed {run.seeds[0]})" if len(run.seeds) > 1 else ""
    return html.section(
        "Where teacher and student disagree",
        f"Test images that the two classify differently{seed}, largest KL divergence first: the file, the true class, "
        "the teacher's prediction, and in colour the student's. A cross marks a wrong one.",
        f'<div class="pictures">{"".join(parts)}</div>' if parts else "",
    )


def _class(run: RunFiles, number: int) -> str:
    return run.classes[number] if number < len(run.classes) else str(number)
