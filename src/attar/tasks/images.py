"""What the tasks on labelled images share: the images of a recipe's data section."""

from __future__ import annotations

from attar.data import Splits, dataset_info, list_datasets, load_data, read_data
from attar.recipe import Recipe
from attar.registry import check_types


def read_images(recipe: Recipe) -> Splits:
    """All images of the recipe's data section.

    Raises:
        AttarError: the data or an option of theirs are unknown, or they are missing or damaged.
    """
    data = recipe.data
    check_types("data", load_data, data.options)
    if data.name in list_datasets():
        check_types(f"data set {data.name!r}", dataset_info(data.name).load, data.options)
    options = {key: value for key, value in data.options.items() if key != "class_weights"}
    return read_data(data.name, data.root, augment=data.augment, unlabelled=data.unlabelled, **options)
