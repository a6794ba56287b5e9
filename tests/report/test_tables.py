"""Tables in the languages that they are written in."""

from attar.report.tables import Table


def row(text):
    return Table("", ["method"], [[text]]).latex().splitlines()[4]


def test_latex_reads_every_sign_as_itself():
    assert row("a_b=50% & c#1 $x$ {y}") == r"a\_b=50\% \& c\#1 \$x\$ \{y\} \\"
    assert row("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{} \\"
    assert row("<a|b> \u00b1 2 \u00d7 3 \u2192 \u2212") == r"$<$a$|$b$>$ $\pm$ 2 $\times$ 3 $\rightarrow$ $-$ \\"
    assert row('a "b"\nc') == r"a ''b'' c \\"


def test_latex_takes_no_row_for_an_argument_of_the_line_before():
    assert row("[a]") == r"{}[a] \\"
    assert row("*a") == r"{}*a \\"


def test_every_minus_of_a_number_is_as_long_as_a_plus():
    assert row("-20.0 to -18.0") == r"$-$20.0 to $-$18.0 \\"
    assert row("kd x=-1 a-2") == r"kd x=-1 a-2 \\"


def test_markdown_has_one_line_a_row_and_no_bar_in_a_cell():
    assert Table("", ["method"], [["a|b\nc"]]).markdown().splitlines()[2] == "| a\\|b c |"
