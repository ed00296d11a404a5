"""Estimates the time and disk space of a run: measures one item of each kind of work, and multiplies."""

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from redarte import devices
from redarte.images import decoding, duplicates, transforms
from redarte.images.collection import checks, files
from redarte.images.sources import archive, sample
from redarte.models import backbones, fisher, study
from redarte.params import Params, Sample
from redarte.runtime import workers
from redarte.training import jobs

_START = {"train": 8.0, "export": 10.0}  # seconds until a stage begins to work; the others: 1
_PER_FILE = 0.001  # seconds to copy, hash and cache a small file
# Extra models: seconds to fit them, seconds for each training image, and the export's time relative to a prediction.
_FITTING = {"fisher": (25.0, 0.01, 1.6), "finetuned": (5.0, 0.02, 1.0)}
_ARTISTS = 50
_KAGGLE = (8_446, 2.2e9)  # images and bytes of the study's data set, zipped and unpacked alike
_SAMPLE_IMAGE = 125e3  # bytes
_MAX_PROBE = 8.0  # width and height of the probe relative to an image of the sample: 30 megapixels


@dataclass(frozen=True)
class Amount:
    """The size of the source.

    Attributes:
        images: how many.
        bytes: of the images.
        extra: bytes of temporary files during fetch.
    """

    images: int
    bytes: float
    extra: float = 0.0


def source_amount(settings: Params) -> Amount | None:
    """Returns the size of the configured source; None where it is unknown before fetch.

    Args:
        settings: params.yaml.

    Raises:
        UserError: the archive cannot be read.
    """
    fetch = settings.fetch
    match fetch.source:
        case "sample":
            images = fetch.sample.schools * fetch.sample.images
            return Amount(images, images * _SAMPLE_IMAGE)
        case "kaggle":
            return Amount(*_KAGGLE, extra=2 * _KAGGLE[1])
        case "folder" if fetch.folder.path and Path(fetch.folder.path).expanduser().is_dir():
            folder = Path(fetch.folder.path).expanduser()
            return _total((name, (folder / name).stat().st_size) for name, skipped in files.walk(folder) if not skipped)
        case "archive" if fetch.archive.path and Path(fetch.archive.path).expanduser().is_file():
            return _total(archive.sizes(Path(fetch.archive.path).expanduser(), fetch.archive))
    return None


def bytes_needed(settings: Params, amount: Amount) -> float:
    """Returns the disk space of a whole run: every output once in the workspace and once in DVC's cache.

    Args:
        settings: params.yaml.
        amount: from `source_amount`.
    """
    copies = amount.images * _ratios(settings)[0] * len(settings.augment.copies)
    # A JPEG of quality 92 to 95 has about 0.3 bytes a pixel, and 0.5 when it is small.
    per_copy = min(amount.bytes / max(amount.images, 1), 0.3 * settings.augment.max_side**2)
    resized = (amount.images + copies) * 0.5 * settings.resize.side**2
    weights = 3 * 4 * (settings.resize.side // 8) ** 2 * 128 * _ARTISTS
    return amount.extra + 2 * (2 * amount.bytes + copies * per_copy + resized + weights)


def seconds(stage: str, settings: Params, amount: Amount) -> float:
    """Returns about how many seconds a stage takes on this machine.

    Args:
        stage: a name of dvc.yaml, such as train_red1 or export@red1.
        settings: params.yaml.
        amount: from `source_amount`.
    """
    step, _, model = stage.replace("train_red", "train@red").replace("_extra", "").partition("@")
    train, test = (amount.images * ratio for ratio in _ratios(settings))
    versions = train * (1 + len(settings.augment.copies))
    resized = amount.images - train + versions
    passes, fitting, per_image, export = settings.train.epochs, *_FITTING.get(model, (0.0, 0.0, 1.0))
    match step:
        case "fetch" | "split":
            work = amount.images * (_image_seconds(step, settings, amount) / workers.count() + 2 * _PER_FILE)
        case "augment":
            work = train * _image_seconds(step, settings, amount) / workers.count() + versions * _PER_FILE
        case "resize":
            work = resized * (_image_seconds(step, settings, amount) / workers.count() + _PER_FILE)
        case "train" if model in _FITTING:
            # An epoch of fine-tuning takes about three forward passes.
            passes = 1 + 3 * settings.finetuned.fine_tune.epochs if model == "finetuned" else 1
            work = fitting + train * per_image + passes * (amount.images - test) * _predicting(model, settings)
        case "train":
            work = passes * versions * _step(model, settings)
        case "export":
            work = (amount.images - test) * export * _predicting(model, settings)
        case "compare":
            work = 3 * test * _predicting("red1", settings)
        case _:
            work = test * _predicting(settings.model, settings)
    return _START.get(step, 1.0) + work


def _ratios(settings: Params) -> tuple[float, float]:
    """The shares of train and test."""
    split = settings.split
    test = 1 / split.folds if split.folds else split.test
    return (1 - test) * split.train / (split.train + split.val), test


def _total(members: Iterable[tuple[str, int]]) -> Amount:
    sizes = [
        size
        for name, size in members
        if PurePosixPath(name).suffix.lower() in checks.SUFFIXES
        and not any(map(files.is_system_file, PurePosixPath(name).parts))
    ]
    return Amount(len(sizes), float(sum(sizes)))


def _time(work: Callable[[], object], repeat: int = 3) -> float:
    work()  # the first call also loads and allocates
    started = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - started) / repeat


def _image_seconds(step: str, settings: Params, amount: Amount) -> float:
    """Seconds of one process for one image of a stage."""
    augment, resize = settings.augment, settings.resize
    with _probe(amount) as probe:
        written = probe.with_name("written.jpg")

        def work() -> None:
            match step:
                case "fetch" if settings.fetch.source == "sample":
                    sample.paint("School_of_Points", 1, settings.fetch.sample)
                case "fetch":
                    checks.problem(probe.read_bytes(), 1e9)
                case "split":
                    duplicates.read(probe.parent, probe.name)
                case "augment":
                    image = decoding.read_within(probe, augment.max_side)
                    for _, copy in transforms.copies(image, "probe", augment, settings.seed):
                        decoding.write_jpeg(written, copy, augment.quality)
                case "resize":
                    decoding.write_jpeg(written, decoding.read_resized(probe, resize.side), resize.quality)

        return _time(work)


@contextmanager
def _probe(amount: Amount) -> Iterator[Path]:
    """An image with the mean number of bytes of the source, for the duration of the block."""
    painted = sample.paint("School_of_Points", 1, Sample(schools=2, images=3, seed=0))
    scale = math.sqrt(amount.bytes / max(amount.images, 1) / len(decoding.jpeg(painted, quality=92)))
    scale = min(_MAX_PROBE, scale)
    side, tiles = round(max(painted.shape) * scale), max(1, math.ceil(scale))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "probe.jpg")
        decoding.write_jpeg(file, decoding.shrink(np.tile(painted, (tiles, tiles, 1)), max(side, 1)), quality=92)
        yield file


def _step(name: str, settings: Params) -> float:
    """Seconds of a training step for one image, in the precision of the training."""
    side, batch = settings.resize.side, settings.train.batch_size
    policy = devices.precision(settings.train.precision)
    model = study.build(name, side, _ARTISTS, getattr(settings, name), policy)  # type: ignore[arg-type]
    jobs.compile_model(model, settings.train, policy, steps=1)
    images = np.zeros((batch, side, side, 3), np.uint8)
    labels = np.eye(_ARTISTS, dtype=np.float32)[np.arange(batch) % _ARTISTS]
    return _time(lambda: model.train_on_batch(images, labels)) / batch


def _predicting(name: str, settings: Params) -> float:
    """Seconds of a prediction for one image."""
    match name:
        case "finetuned":
            side, model = settings.finetuned.input_size, backbones.load(settings.finetuned)
        case "fisher":
            side = settings.fisher.input_size
            model = fisher.build(settings.fisher, side, _ARTISTS)
        case _:
            side = settings.resize.side
            model = study.build("red3", side, _ARTISTS, settings.red3)
    images = np.zeros((4, side, side, 3), np.uint8)
    return _time(lambda: model.predict_on_batch(images), repeat=1) / len(images)
