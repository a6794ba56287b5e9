"""A drawing from somebody else's run folder cannot bring a script, a link or a picture from elsewhere into the page."""

import pytest

from attar import create_method, create_model
from attar.report.drawing import svg
from attar.report.received_svg import safe_svg
from attar.report.run_page import write_report

HOSTILE = [
    "<svg><script>alert(1)</script></svg>",
    '<svg onload="alert(1)"/>',
    '<svg xmlns:x="http://www.w3.org/1999/xlink"><path x:href="javascript:alert(1)"/></svg>',
    "<svg><a href='javascript:alert(1)'><text>x</text></a></svg>",
    "<svg><foreignObject><iframe src='x'/></foreignObject></svg>",
    "<svg><image href='http://elsewhere/x.png'/></svg>",
    '<svg><rect style="fill:url(http://elsewhere/x)"/></svg>',
    '<svg><rect style="fill:u\\72l(http://elsewhere/x)"/></svg>',
    "<svg><style>@import 'http://elsewhere/x.css'</style></svg>",
    "<svg><title>a</title></svg><script>alert(1)</script>",
    '<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg><title>&a;</title></svg>',
    "<svg><!-- --><title/></svg>",
    "<svg>",
    "no drawing",
    "<svg>" + " " * 2**20 + "</svg>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_our_drawings_do_not_hold_is_left_out(text):
    assert safe_svg(text) == ""


def test_our_own_drawings_stay_whole():
    method = create_method("sokd", teacher=create_model("resnet14"), student=create_model("resnet8"))
    drawn = svg(method.graph)
    kept = safe_svg(drawn)
    for part in ("<path", "<text", "<rect", "marker-end", "var(--"):
        assert kept.count(part) == drawn.count(part)
    assert kept.startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def test_a_script_in_graph_svg_does_not_reach_the_page(made_run):
    run = made_run("run").folder
    graph = run / "graph.svg"
    graph.write_text("<svg><title>graph</title></svg>")
    assert "<svg><title>graph</title></svg>" in write_report(run).read_text()
    graph.write_text("<svg><script>alert(1)</script></svg>")
    page = write_report(run).read_text()
    assert "alert(1)" not in page
    graph.write_bytes(b"<svg>\xff</svg>")
    assert write_report(run).exists()
