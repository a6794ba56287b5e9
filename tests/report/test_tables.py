"""Tables in a terminal of 80 columns: nothing is cut off, whether it is a digit or a title."""

import io

import pytest
from rich.console import Console

from attar.methods import list_methods, method_info
from attar.report import html
from attar.report.catalogue import costs_table, methods_table
from attar.report.tables import Table


def printed(table, width=80):
    file = io.StringIO()
    Console(width=width, file=file).print(table)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("table", [costs_table, methods_table])
def test_a_table_of_all_methods_fits_with_every_title(table):
    lines = printed(table(list_methods()))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    whole = "".join("".join(lines).split())
    titles = [method_info(name).title for name in list_methods()]
    words = {word for title in titles for word in title.split() if len(word) <= 12}
    assert [word for word in words if word not in whole] == []


def test_lists_break_behind_their_commas_where_the_last_column_needs_room():
    rows = [["catkd", "stages, classifier", "Class Attention Transfer Based Knowledge Distillation"]]
    table = Table("", ["method", "needs", "what"], rows, texts=3)
    lines = [line.rstrip() for line in printed(table, 44)][3:]
    assert [line for line in lines if line] == [
        " catkd   stages,     Class Attention",
        "         classifier  Transfer Based",
        "                     Knowledge Distillation",
    ]
    assert "stages, classifier" in "".join(printed(table, 80))


def test_a_wide_table_has_no_class_so_that_documentation_sites_style_it_too():
    wide = html.table(Table("", [f"c{n}" for n in range(12)], [[str(n) for n in range(12)]]))
    assert '<div class="wide dense"><table>' in wide


def test_a_tile_with_a_long_number_is_drawn_smaller():
    tiles = html.tiles([("parameters", "2.2", ""), ("latency", "27.1 (16.7) ms", "")], key=1)
    assert '<dd class="big">2.2' in tiles
    assert '<dd class="big main long">27.1' in tiles
