"""Photographs in a folder a class."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

from attar.data.images import Splits
from attar.data.registry import register_dataset
from attar.data.sources.from_files import Reading
from attar.data.sources.image_tree import FOREIGN, LeftOut, folders_in, image_files, listed, own_images
from attar.data.sources.listings import splits_of
from attar.data.sources.origins import files_in
from attar.data.sources.split_names import by_role, is_split_name, role_of
from attar.decoding import HEIC, SUFFIXES, require_pillow
from attar.errors import AttarError
from attar.sizes import Size

# The image files of each class.
Classes = dict[str, list[Path]]


@register_dataset(
    "folder", title="Image folder", source="your own: ROOT/CLASS/IMAGE, or ROOT/{train,val,test}/CLASS/IMAGE", flip=True
)
def folder(
    root: Path | None,
    download: bool,
    image_size: Size | None,
    *,
    skip_unreadable: bool = False,
    test_fraction: float = 0.2,
    resize_size: Size | None = None,
    in_memory: bool | None = None,
    workers: int | None = None,
) -> Splits:
    """Images in a folder a class, as square RGB.

    Folders of splits are found by their names, whatever their case: train or training; val, valid, validation, dev or
    eval; test or testing; also seg_train, train2017 and the like, and inside the classes (ROOT/CLASS/{train,test}).
    With train/ and test/ the test images come from there, and the validation images from val/ where it exists.
    With train/ and val/ alone, val/ is the test set, as ImageNet uses it. A single folder of classes gives a test set
    that is the same in every run. Everything that is left out or merged is counted in a note.

    Args:
        root: the folder.
        download: not needed here.
        image_size: what networks see: a side in pixels, or [height, width]; None: 64.
        skip_unreadable: leave out images that cannot be decoded, with a note, and do not stop. Streamed images
            are only known to be unreadable when they are read: see `StreamingLoader`.
        test_fraction: the part tested on where there is no folder for it; 1: every image, for `attar.evaluate`.
        resize_size: what images are read at: they are scaled until they cover it and the centre is cut out.
            Networks are tested on the central image_size of it, and augment.resized_crop uses all of it (ImageNet:
            256 and 224). None: image_size.
        in_memory: whether all images are decoded once into memory; None: where that takes at most 2 GB. Otherwise
            they are streamed from their files, every epoch anew; what networks see is the same.
        workers: processes that read streamed images; 0: none but the main one; None: as many as suit the machine.

    Raises:
        AttarError: a folder is missing, which folders are splits and which are classes is not clear, a class has
            test images but none to train on, an image cannot be read, or the images are wanted in memory and do not
            fit.
    """
    require_pillow()
    if root is None:
        raise AttarError("data set 'folder' needs the folder of images; give data.root=")
    if not root.is_dir():
        raise AttarError(
            f"data.root={str(root)!r} is no folder; expected one with a folder per class, or train/ and val/"
        )
    reading = Reading(image_size, resize_size, in_memory, workers, skip_unreadable, test_fraction)
    left = LeftOut()
    bases, splits = find_layout(root, left)
    labels = {role: [name for name, files in classes.items() for _ in files] for role, classes in splits.items()}
    origins = {
        role: files_in(
            bases[role], [str(file.relative_to(bases[role])) for files in classes.values() for file in files]
        )
        for role, classes in splits.items()
    }
    # Sorted as texts, as torchvision's ImageFolder has them; a table's numbers are sorted as numbers.
    names = list(splits["train"])
    return splits_of(labels, origins, reading, root, name=root.name, classes=names, notes=left.line(root))


def find_layout(root: Path, left: LeftOut) -> tuple[dict[str, Path], dict[str, Classes]]:
    """Of each role the folder its names start from, and its classes, both in order.

    Raises:
        AttarError: which folders are splits and which are classes is not clear, or there are fewer than two classes.
    """
    inside = folders_in(root, left)
    outside = own_images(root, left)
    if places := _split_folders(root, inside, left):
        splits = {role: _classes(place, folders_in(place, left), left) for role, place in places.items()}
        outside += [file for place in places.values() for file in own_images(place, left)]
    elif inner := _splits_in_classes(root, inside, left):
        places, splits = dict.fromkeys(inner, root), inner
    else:
        places, splits = {"train": root}, {"train": _classes(root, inside, left)}
    if outside:
        left.notes.append(f"{len(outside)} images outside the class folders are left out")
    if len(splits["train"]) < 2:
        raise _too_few(places["train"], splits["train"])
    return places, splits


def _split_folders(root: Path, inside: list[Path], left: LeftOut) -> dict[str, Path]:
    """The folder of each role where the folders of ROOT are splits; none where they are classes."""
    named = {folder: _unwrapped(folder) for folder in inside if role_of(folder.name)}
    layered = {folder: place for folder, place in named.items() if _has_classes(place)}
    if not layered:
        _refuse_flat_splits(root, list(named), left)
        return {}
    roles = {role_of(folder.name) for folder in layered}
    others = [folder for folder in inside if folder not in layered and image_files(folder, LeftOut())]
    if "train" not in roles:
        if not any(is_split_name(folder.name) for folder in layered):
            return {}
        raise AttarError(f"{root} has {listed(f.name for f in layered)} but no folder to train on; name one train")
    if len(roles) == 1 and any(role_of(other.name) is None for other in others):
        raise AttarError(
            f"{root}: is {next(iter(layered)).name!r} a split or a class beside {listed(f.name for f in others)}? move "
            "the splits into a folder of their own, or rename it"
        )
    if any(role_of(other.name) == "train" for other in others):
        raise AttarError(f"{root}/{next(o.name for o in others if role_of(o.name) == 'train')} has no class folders")
    for other in others:
        kind = "images without class folders" if role_of(other.name) else "images"
        left.notes.append(f"folder {other.name!r} is left out ({len(image_files(other, LeftOut()))} {kind})")
    left.empty += [f.name for f in inside if f not in layered and f not in others]
    found, _ = by_role((folder.name for folder in layered), root, "folders")
    return {role: layered[root / name] for role, name in found.items()}


def _refuse_flat_splits(root: Path, named: list[Path], left: LeftOut) -> None:
    """Folders with the names of splits that hold images and no classes are refused, except a class called train."""
    named = [folder for folder in named if own_images(folder, LeftOut())]
    plain = [folder for folder in named if is_split_name(folder.name)]
    roles = {role_of(folder.name) for folder in named}
    if len(roles) > 1 or any(role_of(folder.name) != "train" for folder in plain):
        raise AttarError(
            f"{root}: {listed(f.name for f in named)} are named like splits but have no class folders in them; sort "
            "the images into ROOT/SPLIT/CLASS, rename a class of that name, or list them in a table (data=manifest)"
        )
    if plain:
        left.notes.append(f"folder {plain[0].name!r} is taken for a class")


def _splits_in_classes(root: Path, inside: list[Path], left: LeftOut) -> dict[str, Classes]:
    """ROOT/CLASS/{train,test} by role; nothing where classes have no such folders in them."""
    within = {folder: folders_in(folder, LeftOut()) for folder in inside}
    if not any(is_split_name(inner.name) for folders in within.values() for inner in folders):
        return {}
    found: dict[str, Classes] = {}
    for folder, inner in within.items():
        if not image_files(folder, LeftOut()):
            left.empty.append(folder.name)
            continue
        roles, rest = by_role((one.name for one in inner), folder, "folders")
        if own_images(folder, left) or rest or "train" not in roles:
            raise AttarError(
                f"{folder} holds {listed(one.name for one in inner)}: not every class there is divided into train and "
                "test folders alike; sort the images into ROOT/SPLIT/CLASS, or list them in a table (data=manifest)"
            )
        for role, name in roles.items():
            if files := image_files(folder / name, left):
                found.setdefault(role, {})[_class_name(folder)] = files
    left.notes.append("the classes' own folders are taken for splits")
    return {role: found[role] for role in ("train", "val", "test") if role in found}


def _classes(place: Path, folders: list[Path], left: LeftOut) -> Classes:
    """The image files of every class, both sorted; classes without images are left out."""
    found: Classes = {}
    merged: dict[str, list[str]] = {}
    for folder in folders:
        own = LeftOut()
        files = image_files(folder, own)
        if not files:
            _refuse_foreign(folder, own)
            left.empty.append(folder.name)
        name = _class_name(folder)
        if name in found:
            raise AttarError(f"{place} has two folders for class {name!r}, written with other bytes; merge them")
        left.suffixes += own.suffixes
        left.hidden, left.links = left.hidden + own.hidden, left.links + own.links
        if files:
            found[name] = files
        inner = sorted({file.relative_to(folder).parts[0] for file in files if file.parent != folder})
        if inner:
            merged[name] = inner
            nested = sum(file.parent != folder for file in files)
            counted = "image in a folder" if nested == 1 else "images in folders"
            left.notes.append(
                f"{nested} {counted} inside class {name!r} ({listed(inner)}) count{'s' if nested == 1 else ''} for it"
            )
    _refuse_two_levels(place, found, merged)
    return found


def _refuse_two_levels(place: Path, found: Classes, merged: dict[str, list[str]]) -> None:
    """Folders that hold only folders, the same in each, are not the classes."""
    deep = all(file.parent.parent != place for files in found.values() for file in files)
    alike = {tuple(inner) for inner in merged.values()}
    if len(found) > 1 and deep and len(merged) == len(found) and len(alike) == 1 and len(next(iter(alike))) > 1:
        raise AttarError(
            f"every folder of {place} ({listed(found)}) holds the same folders ({listed(next(iter(alike)))}), so it is "
            "not clear which are the classes; give data.root= one of them, or a table (data=manifest)"
        )


def _refuse_foreign(folder: Path, own: LeftOut) -> None:
    """A class all of whose photographs are of formats that cannot be read must not disappear."""
    if foreign := [suffix for suffix in own.suffixes if suffix in FOREIGN]:
        heic = "; pip install 'attar[heic]'" if set(foreign) <= set(HEIC) else ", or convert them"
        raise AttarError(
            f"class {folder.name!r} in {folder.parent} has no images ({', '.join(SUFFIXES)}) but "
            f"{own.suffixes[foreign[0]]} {foreign[0]} files, which cannot be read{heic}, or remove the folder"
        )


def _too_few(place: Path, found: Classes) -> AttarError:
    hint = ""
    inside = folders_in(place, LeftOut())
    if len(inside) == 1 and len(folders_in(inside[0], LeftOut())) > 1:
        hint = f"; are they in {str(inside[0])!r}? then give that as data.root="
    return AttarError(
        f"{place} has {len(found)} class folder{'s' * (len(found) != 1)} with images ({', '.join(SUFFIXES)}); expected "
        f"at least 2{hint}"
    )


def _unwrapped(folder: Path) -> Path:
    """The folder of classes in seg_train/seg_train/CLASS."""
    inside = folders_in(folder, LeftOut())
    if len(inside) == 1 and role_of(inside[0].name) == role_of(folder.name) and not own_images(folder, LeftOut()):
        return inside[0]
    return folder


def _has_classes(place: Path) -> bool:
    """Whether a folder has folders with images in them."""
    return any(image_files(inner, LeftOut()) for inner in folders_in(place, LeftOut()))


def _class_name(folder: Path) -> str:
    """Accents are written in two ways; both are one name."""
    return normalize("NFC", folder.name)
