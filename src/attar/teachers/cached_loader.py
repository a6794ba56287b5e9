"""A loader that sets each frozen teacher's logits from a disk cache, and fills the cache where it is empty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attar.accel.runtime import Runtime
from attar.batch import Batch
from attar.data import Loader, Samples, Wrapped
from attar.distributed.team import team
from attar.errors import AttarError
from attar.knowledge import Output
from attar.methods import Method
from attar.models import Frozen, fingerprint
from attar.recipe import Recipe
from attar.teachers.cache import TeacherCache, Writer, check_space
from attar.teachers.logit_codec import codec_of
from attar.teachers.usage import teacher_usage

# Cached logits further than this from computed ones (norm of the difference over the norm) are of another teacher.
STALE = 0.05


def caches_logits(method: Method, recipe: Recipe) -> bool:
    """Whether there are a cache and a frozen teacher."""
    return bool(recipe.teacher.cache) and any(True for _ in method.frozen())


def check_cache_top(method: Method, recipe: Recipe, classes: int) -> None:
    """Refuse a number of cached logits that the outputs do not have.

    Raises:
        AttarError: networks put out no logits, or not so many.
    """
    top = recipe.teacher.cache_top
    if top is None or not caches_logits(method, recipe):
        return
    if method.task.output != "logits":
        raise AttarError(
            f"teacher.cache_top keeps the largest logits, and networks put out {method.task.output}; leave it out"
        )
    codec_of((classes,), top)


def with_cached_logits(
    loader: Loader,
    method: Method,
    recipe: Recipe,
    images: Samples,
    runtime: Runtime,
    log: Callable[[str], object],
) -> Loader:
    """A loader with cached logits, where the recipe names a cache and the method can use one.

    Raises:
        AttarError: the disk has no room for the cache.
    """
    whole = loader.whole()
    root, top = recipe.teacher.cache, recipe.teacher.cache_top
    if root is None or not caches_logits(method, recipe):
        return loader
    if whole.unlabelled_batch:
        log("no teacher cache: it holds every image once an epoch, and unlabelled images have passes of their own")
        return loader
    if recipe.data.repeats > 1:
        log("no teacher cache: it holds every image once an epoch, and data.repeats shows some several times")
        return loader
    caches = []
    for frozen, reading in zip(method.frozen(), teacher_usage(method, next(iter(whole.epoch(0)))), strict=True):
        if not reading.output:
            log(f"no teacher cache: {recipe.method.name} computes its teacher in a way of its own")
            continue
        if reading.taps or not reading.own_images:
            what = f"reads {', '.join(reading.taps)}" if reading.taps else "shows its teacher other images"
            log(f"no teacher cache: {recipe.method.name} {what}; a cache holds the logits of a batch's own images")
            continue
        facts = {
            "teacher": fingerprint(frozen.module),
            "engine": frozen.engine.name,
            "precision": runtime.precision,
            "data": images.fingerprint,
            "augment": str(whole.augment),
            "view_seed": whole.view_seed,
        }
        if whole.mixing:
            # Who is mixed with whom follows from the epoch's order, and that from the run's own seed.
            facts |= {"mixing": str(whole.mixing), "order": [whole.seed, whole.shuffle]}
        codec = codec_of(reading.output, top)
        caches.append((frozen, TeacherCache(Path(root), facts, len(images), codec, runtime.device)))
    if not caches:
        return loader
    log(check_space(Path(root), sum(cache.bytes_needed(recipe.epochs) for _, cache in caches)))
    return CachedLoader(loader, caches, runtime, log)


@dataclass
class CachedLoader(Wrapped):
    """Batches of another loader; each frozen network's output is set before the method runs it.

    Logits pass through the cache's format whether they are read or computed, so a run is the same to the last bit
    with a cache that is full, empty or half there.

    Attributes:
        loader: where the batches come from.
        caches: each frozen network that reads the batch's own images and gives only logits, with its cache.
        runtime: the precision in which the networks run.
        log: called with a line when a cache is not what it should be.
    """

    caches: list[tuple[Frozen, TeacherCache]]
    runtime: Runtime
    log: Callable[[str], object]

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, as the loader gives them."""
        with ExitStack() as closing:
            entries = [self._open(frozen, cache, epoch, start_step) for frozen, cache in self.caches]
            for entry in entries:
                closing.callback(entry.close)
            for batch in self.loader.epoch(epoch, start_step):
                for entry in entries:
                    with self.runtime.computing(), torch.no_grad():
                        entry.set_output(batch)
                yield batch
            for entry in entries:
                entry.finish()

    def _open(self, frozen: Frozen, cache: TeacherCache, epoch: int, start_step: int) -> _EpochLogits:
        rows = cache.read(epoch)
        if rows is None and cache.file(epoch).exists():
            self.log(f"{cache.file(epoch)} is damaged; it is written again")
        # A file holds the images of the whole epoch and of all processes, each of which sees only its own.
        seen_whole = start_step == 0 and team().size == 1
        return _EpochLogits(frozen, cache, rows, epoch if seen_whole else None, self.log)


@dataclass
class _EpochLogits:
    """One teacher's logits during one epoch: read where there are rows, and otherwise computed and written.

    Attributes:
        frozen: the teacher.
        cache: its cache.
        rows: what the cache holds of the epoch.
        epoch: where computed logits are written; None where not all of them are seen here.
        log: called with a line when the cache is not what it should be.
    """

    frozen: Frozen
    cache: TeacherCache
    rows: Tensor | None
    epoch: int | None
    log: Callable[[str], object]
    writer: Writer | None = None
    checked: bool = False

    def __post_init__(self) -> None:
        if self.rows is None:
            self._start_writing()

    def _start_writing(self) -> None:
        if self.epoch is None:
            return
        try:
            self.writer = self.cache.writer(self.epoch)
        except (OSError, AttarError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.log(f"the teacher cache cannot be written ({reason}); this epoch goes on without it")

    def set_output(self, batch: Batch) -> None:
        """Set the teacher's output for a batch."""
        assert batch.index is not None
        if self.rows is not None and not self.checked:
            self._check(batch)
        if self.rows is not None:
            logits = self.cache.decode(self.rows, batch.index)
        else:
            row = self.cache.codec.encode(self.frozen.engine(batch.inputs).logits)
            if self.writer:
                self.writer.write(batch.index, row)
            logits = self.cache.codec.decode(row)
        self.frozen.set_output(batch.inputs, Output(logits))

    def _check(self, batch: Batch) -> None:
        """The first batch of an epoch is computed all the same: what no key foresees shows here."""
        assert self.rows is not None
        assert batch.index is not None
        self.checked = True
        codec = self.cache.codec
        computed = codec.decode(codec.encode(self.frozen.engine(batch.inputs).logits))
        found = self.cache.decode(self.rows, batch.index)
        if not float((found - computed).norm()) <= STALE * float(computed.norm()):
            self.log(f"{self.cache.folder} is of another teacher or augmentation; its logits are computed again")
            self.rows = None
            self._start_writing()

    def finish(self) -> None:
        """The epoch is over: a file that was written gets its name."""
        if self.writer:
            try:
                self.writer.commit()
            except OSError as error:
                self.log(f"the teacher cache was not written ({error.strerror})")

    def close(self) -> None:
        """Whatever happened: nothing half-written stays, and no output outlives its batch."""
        if self.writer:
            self.writer.discard()
        self.frozen.clear_output()
