"""`attar report` and `attar compare`."""


def test_report_makes_the_page_anew(made_run, attar):
    made_run("run")
    status, out, _ = attar("report", "run")
    assert (status, out) == (0, "Report: run/report.html\n")


def test_report_of_no_run_is_one_line(attar):
    status, _, err = attar("report", "nothing")
    assert status == 2
    assert err.startswith("attar: nothing holds no finished run (no recipe.yaml); give the folder that `attar distill`")
    assert err.count("\n") == 1


def test_compare_prints_the_tables_and_writes_the_files(made_run, attar, tmp_path):
    made_run("kd", seeds=3)
    made_run("with=sign", seeds=3, random=1)
    status, out, _ = attar("compare", "kd", "with=sign", "out=both.html")
    assert status == 0
    assert "cifar100 (120 test images)" in out
    assert "Differences from kd, paired by seed" in out
    assert "…" not in out
    assert {"both.html", "both.md", "both.csv"} <= {file.name for file in tmp_path.iterdir()}


def test_compare_refuses_in_one_line(made_run, attar, tmp_path):
    made_run("kd")
    made_run("other", data={"name": "cifar10"})
    status, _, err = attar("compare", "kd", "other")
    assert status == 2
    assert err.count("\n") == 1
    assert "different test sets" in err
    status, _, err = attar("compare", "kd", "other", "output=x.html")
    assert (status, err) == (2, "attar: unknown key 'output'; did you mean 'out'?\n")
    assert not list(tmp_path.glob("compare.*"))
