"""Data: where images come from, how they are split, and how they reach the networks.

Everything lies in memory as bytes, and everything random follows from an address (seed, epoch, image).
"""

from attar.data.augment import Augment
from attar.data.device_loader import DeviceLoader, eval_batches
from attar.data.images import ImageSet, Splits
from attar.data.load import load_data
from attar.data.registry import DatasetInfo, dataset_info, list_datasets, register_dataset
from attar.data.split import limit, stratified_split
from attar.data.wrap import statistics, wrap

__all__ = [
    "Augment",
    "DatasetInfo",
    "DeviceLoader",
    "ImageSet",
    "Splits",
    "dataset_info",
    "eval_batches",
    "limit",
    "list_datasets",
    "load_data",
    "register_dataset",
    "statistics",
    "stratified_split",
    "wrap",
]
