"""Chains in a suite: which runs they need, and that each is done once."""

from pathlib import Path

import pytest
import yaml

from attar.experiments.build import split_seed
from attar.experiments.chain import chain_links, links_in
from attar.experiments.layout import teacher_recipe
from attar.experiments.suites import bench
from attar.experiments.suites.cells import cells_of
from attar.experiments.suites.suite_chains import suite_links, without_weights
from attar.recipe import read_recipe

COMMON = {"data": {"name": "digits", "train_size": 64}, "epochs": 1, "batch_size": 32, "precision": "float32"}
VALUES = {"data": "digits", "method": "takd", "alone": "skip", "epochs": 3, "teacher": {"epochs": 7}}
CHAINS = [{"chain": ["resnet20", "resnet14", "resnet8"]}, {"chain": ["resnet20", "resnet14", "resnet14", "resnet8"]}]


def cells(folder, methods=("takd",), seeds=(0,)):
    return cells_of({"pairs": CHAINS, "methods": list(methods), "seeds": list(seeds)}, COMMON, folder)


def test_links_that_chains_share_are_one_run(tmp_path):
    first, second = cells(tmp_path)
    assert [one.row.rpartition("-")[0] for one in second.teachers] == [
        "resnet20-supervised", "resnet14-takd", "resnet14-takd"
    ]  # fmt: skip
    assert first.teachers == second.teachers[:2]
    for cell in (first, second):
        last = cell.teachers[-1]
        assert cell.values["teacher"]["weights"] == str(tmp_path.resolve() / last.folder / "student.safetensors")
        assert cell.untrained["teacher"]["weights"] is None
        assert last.teachers == cell.teachers[:-1]
        assert last.trains_teacher
    assert [cell.column for cell in (first, second)] == ["resnet20 -> resnet14 -> resnet8",
                                                         "resnet20 -> resnet14 -> resnet14 -> resnet8"]  # fmt: skip


def test_folders_are_the_same_wherever_the_suite_is(tmp_path):
    places = [[one.folder for one in cells(tmp_path / name)[1].teachers] for name in ("here", "there")]
    assert places[0] == places[1]


def test_other_seeds_and_methods_have_links_of_their_own(tmp_path):
    found = {one.title for cell in cells(tmp_path, ("takd", "kd"), (0, 1)) for one in cell.teachers}
    # For each seed the first network, and for each method the two networks before the last one.
    assert len(found) == 2 * (1 + 2 * 2)
    assert sum(title.startswith("resnet20-supervised") for title in found) == 2


def test_the_first_network_learns_from_the_labels_for_the_teachers_epochs():
    links, last = suite_links({**VALUES, "chain": ["resnet14", "resnet8", "resnet8"]}, Path("suite"))
    (_, first), (_, second) = links
    assert (first["method"]["name"], first["epochs"], second["epochs"]) == ("supervised", 7, 3)
    assert last["teacher"]["name"] == last["student"]["name"] == "resnet8"


def test_generations_have_the_seeds_and_the_images_of_a_chain_that_runs_alone():
    values = {**VALUES, "chain": ["resnet8", "resnet8", "resnet8"], "seed": 3}
    links, last = suite_links(values, Path("suite"))
    made = [read_recipe(**one) for one in (*(link for _, link in links), last)]
    second, third = chain_links(read_recipe(**values), links_in(Path("chain")))
    own = [teacher_recipe(second, 0), second, third]
    assert [one.seed for one in made] == [one.seed for one in own] == [30_003, 20_003, 3]
    assert [split_seed(one, one.seed) for one in made] == [split_seed(one, one.seed) for one in own] == [3, 3, 3]


def test_a_first_network_with_weights_is_read():
    values = {**VALUES, "chain": ["resnet14", "resnet8", "resnet8"], "teacher": {"weights": "a.pth"}}
    ((_, link),), _ = suite_links(values, Path("suite"))
    assert link["teacher"]["weights"] == "a.pth"
    assert without_weights(link)["teacher"]["weights"] is None


def test_all_before_it_teach_the_last_one():
    values = {**VALUES, "chain": ["resnet14", "resnet8", "resnet8"], "chain_from": "all", "method": "dgkd"}
    teacher = suite_links(values, Path("suite"))[1]["teacher"]
    assert teacher["name"] == "resnet14,resnet8"
    names = [Path(file).parents[1].name.partition("-")[0] for file in teacher["weights"].split(",")]
    assert names == ["resnet14", "resnet8"]


@pytest.mark.slow
def test_a_suite_of_chains_trains_each_link_once(tmp_path):
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump({"recipe": COMMON, "pairs": CHAINS, "methods": ["takd"]}))
    for _ in range(2):
        suite = bench.read_suite(file, [f"out={tmp_path / 'out'}", "jobs=1"], bench.Console(quiet=True))
        suite.run()
        links = sorted((tmp_path / "out" / "links").glob("*/seed0/student.safetensors"))
        assert len(links) == 3
        written = [link.stat().st_mtime_ns for link in links]
    assert written == [link.stat().st_mtime_ns for link in links]
