"""Data: where images come from, how they are split, and how they reach the networks.

Images lie in memory as bytes or are streamed from their files, and everything random follows from an address (seed,
epoch, image).
"""

from attar.data.file_set import FileSet
from attar.data.images import FeatureSplits, ImageSet, Splits
from attar.data.loading.device_loader import DeviceLoader
from attar.data.loading.evaluation import batches_of, eval_batch_size
from attar.data.loading.load import divided, load_data, read_data
from attar.data.loading.loader import Loader, Samples, Wrapped, eval_batches, loader_for, training_loader
from attar.data.loading.split import limit, stratified_split
from attar.data.loading.streaming import StreamingLoader
from attar.data.loading.tensor_loader import TensorLoader
from attar.data.registry import DatasetInfo, dataset_info, list_datasets, register_dataset
from attar.data.sources.drawn import DrawnSet
from attar.data.sources.wrap import statistics, wrap
from attar.data.tensor_set import TensorSet, TensorSplits
from attar.data.transforms import erasing  # noqa: F401, it registers itself
from attar.data.transforms.augment import Augment
from attar.data.transforms.mixing import Mixing, cutmix, mixup
from attar.data.transforms.own import list_augmentations, register_augmentation

__all__ = [
    "Augment",
    "DatasetInfo",
    "DeviceLoader",
    "DrawnSet",
    "FeatureSplits",
    "FileSet",
    "ImageSet",
    "Loader",
    "Mixing",
    "Samples",
    "Splits",
    "StreamingLoader",
    "TensorLoader",
    "TensorSet",
    "TensorSplits",
    "Wrapped",
    "batches_of",
    "cutmix",
    "dataset_info",
    "divided",
    "eval_batch_size",
    "eval_batches",
    "limit",
    "list_augmentations",
    "list_datasets",
    "load_data",
    "loader_for",
    "mixup",
    "read_data",
    "register_augmentation",
    "register_dataset",
    "statistics",
    "stratified_split",
    "training_loader",
    "wrap",
]
