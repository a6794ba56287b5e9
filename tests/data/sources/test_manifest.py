import pytest
import torch
from PIL import Image

from attar.data import load_data
from attar.errors import AttarError


@pytest.fixture
def table(tmp_path):
    """Writes a table beside twelve images, red ones and green ones."""
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        colour = (200, 0, 0) if number % 2 else (0, 200, 0)
        Image.new("RGB", (10, 8), colour).save(tmp_path / "pictures" / f"{number:02d}.png")

    def write(*lines):
        file = tmp_path / "table.csv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


def rows(numbers, role=None):
    end = f",{role}" if role else ""
    return [f"pictures/{n:02d}.png,{'red' if n % 2 else 'green'}{end}" for n in numbers]


def test_a_table_without_splits_is_split(table):
    splits = load_data("manifest", root=table("path,label", *rows(range(12))), image_size=8, val_fraction=0)
    assert splits.classes == ("green", "red")
    assert [len(splits.train), len(splits.test)] == [10, 2]
    for part in (splits.train, splits.test):
        assert torch.equal(part.images[:, 0, 4, 4], 200 * part.labels.to(torch.uint8))


@pytest.mark.parametrize(
    ("roles", "sizes"),
    [(("train", "val"), (4, None, 4)), (("train", "test"), (4, None, 4)), (("train", "val", "test"), (4, 4, 4))],
)
def test_roles_come_from_the_table(table, roles, sizes):
    lines = [line for place, role in enumerate(roles) for line in rows(range(4 * place, 4 * place + 4), role)]
    splits = load_data("manifest", root=table("path,label,split", *lines), image_size=8, val_fraction=0)
    assert (len(splits.train), splits.val and len(splits.val), len(splits.test)) == sizes


def test_classes_that_are_numbers_keep_their_order(table):
    lines = [f"pictures/{n:02d}.png,{9 + n % 2}" for n in range(12)]
    assert load_data("manifest", root=table("path,label", *lines), image_size=8).classes == ("9", "10")


def test_a_table_can_be_streamed(table):
    splits = load_data("manifest", root=table("path,label", *rows(range(12))), image_size=8, in_memory=False, workers=0)
    assert splits.train.path(0).is_file()
    assert splits.image_shape == (3, 8, 8)


def test_classes_of_nearly_one_name_are_noted(table):
    lines = [*rows(range(12)), "pictures/00.png,Red "]
    splits = load_data("manifest", root=table("path,label", *lines[1:]), image_size=8, val_fraction=0)
    assert splits.notes == ("classes 'Red' and 'red' have nearly the same name; merge them if they are one",)


def test_a_table_given_as_the_data_names_the_form_to_use(table):
    file = table("path,label", *rows(range(12)))
    with pytest.raises(AttarError) as caught:
        load_data(str(file))
    assert str(caught.value) == f"data={file} is a file; give data=manifest data.root={file}"


def test_uneven_classes_are_noted(table):
    lines = [f"pictures/{n:02d}.png,{'rare' if n == 0 else 'common'},train" for n in range(11)]
    splits = load_data("manifest", root=table("path,label,split", *lines, *rows([]), "pictures/11.png,rare,test"))
    assert splits.notes == (
        "classes without test images: 'common'",
        "classes are uneven: 'common' has 10 training images, 'rare' 1",
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,label"], "unknown column of .* 'file'; known: label, path, split"),
        (["path,lable"], "did you mean 'label'"),
        (["path"], "no column 'label'"),
        (["path,label"], "no training images"),
        (["path,label", "../secret.png,a"], "line 2: '../secret.png' leaves the folder"),
        (["path,label", "pictures/../../secret.png,a"], "leaves the folder"),
        (["path,label", "/etc/passwd,a"], "'/etc/passwd' leaves the folder"),
        (["path,label", "pictures/99.png,a"], r"line 2: there is no file .*99\.png"),
        (["path,label", "pictures/00.png,"], "one path and one label"),
        (["path,label", "pictures/00.png,a,b"], "one path and one label"),
        (["path,label,split", "pictures/00.png,a,tset"], "did you mean 'test'"),
        (["path,label,split", "pictures/00.png,a,train", "pictures/00.png,a,test"], "listed in line 2 already"),
        (["path,label,split", "pictures/00.png,a,train", "pictures/01.png,a,train"], "1 class, 'a'"),
        (
            ["path,label,split", *rows(range(4), "train"), "pictures/05.png,blue,test"],
            "class 'blue' has test images but none to train on",
        ),
    ],
)
def test_mistakes_are_named(table, lines, message):
    with pytest.raises(AttarError, match=message) as caught:
        load_data("manifest", root=table(*lines))
    assert "\n" not in str(caught.value)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AttarError, match="no CSV file in UTF-8"):
        load_data("manifest", root=tmp_path / "table.csv")
    with pytest.raises(AttarError, match=r"give data\.root=FILE\.csv"):
        load_data("manifest", root=tmp_path)


def test_both_ways_of_writing_an_accent_are_one_class(table):
    both = ("\u00e4pfel", "a\u0308pfel")
    lines = [row.replace("red", both[number // 2 % 2]) for number, row in enumerate(rows(range(12)))]
    splits = load_data("manifest", root=table("path,label", *lines), image_size=8, val_fraction=0)
    assert splits.classes == ("green", "\u00e4pfel")
