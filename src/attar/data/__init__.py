"""Data: where images come from, how they are split, and how they reach the networks.

Images lie in memory as bytes or are streamed from their files, and everything random follows from an address (seed,
epoch, image).
"""

from attar.data.augment import Augment
from attar.data.device_loader import DeviceLoader
from attar.data.file_set import FileSet
from attar.data.images import ImageSet, Splits
from attar.data.load import divided, load_data, read_data
from attar.data.loaders import Loader, Wrapped, eval_batches, loader_for
from attar.data.mixing import Mixing, cutmix, mixup
from attar.data.registry import DatasetInfo, dataset_info, list_datasets, register_dataset
from attar.data.split import limit, stratified_split
from attar.data.streaming import StreamingLoader
from attar.data.wrap import statistics, wrap

__all__ = [
    "Augment",
    "DatasetInfo",
    "DeviceLoader",
    "FileSet",
    "ImageSet",
    "Loader",
    "Mixing",
    "Splits",
    "StreamingLoader",
    "Wrapped",
    "cutmix",
    "dataset_info",
    "divided",
    "eval_batches",
    "limit",
    "list_datasets",
    "load_data",
    "loader_for",
    "mixup",
    "read_data",
    "register_dataset",
    "statistics",
    "stratified_split",
    "wrap",
]
