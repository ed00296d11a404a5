"""Estimates the time and disk space of a run: measures one item of each kind of work, and multiplies."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redarte import devices
from redarte.images import decoding, transforms
from redarte.images.duplicates import candidates
from redarte.ingestion import checks
from redarte.ingestion.collection import files
from redarte.ingestion.sources import archive, sample
from redarte.models import backbones, fisher, study
from redarte.params import STUDY, Params, Sample
from redarte.runtime import workers
from redarte.training import jobs

_START = {"train": 8.0, "export": 10.0}  # seconds until a stage begins to work; the others: 1
_PER_FILE = 0.001  # seconds to copy, hash and cache a small file
_SVM = 0.02  # seconds for a training image, to fit the support vector machine of an extra model
_ARTISTS = 50
_KAGGLE = (8_446, 2.2e9)  # images and bytes of the study's data set
_SAMPLE_IMAGE = 125e3  # bytes


@dataclass(frozen=True)
class Amount:
    """The size of the source: the number of images, and their bytes."""

    images: int
    bytes: float


def source_amount(settings: Params) -> Amount | None:
    """Returns the size of the configured source; None where it is unknown before fetch."""
    fetch = settings.fetch
    path = Path(getattr(getattr(fetch, fetch.source), "path", None) or "not set").expanduser()
    match fetch.source:
        case "sample":
            images = fetch.sample.schools * fetch.sample.images
            return Amount(images, images * _SAMPLE_IMAGE)
        case "kaggle":
            return Amount(*_KAGGLE)
        case "folder" if path.is_dir():
            found = [path / name for name, skipped in files.walk(path) if skipped is None]
            return Amount(len(found), float(sum(file.stat().st_size for file in found)))
        case "archive" if path.is_file():
            sizes = [size for name, size in archive.sizes(path, fetch.archive) if files.is_image_name(name)]
            return Amount(len(sizes), float(sum(sizes)))
    return None


def bytes_needed(settings: Params, amount: Amount) -> float:
    """Returns the disk space of a whole run: every output once in the workspace and once in DVC's cache."""
    copies = amount.images * _ratios(settings)[0] * len(settings.augment.copies)
    # A JPEG of quality 92 to 95 has about 0.3 bytes a pixel, and 0.5 when it is small.
    per_copy = min(amount.bytes / max(amount.images, 1), 0.3 * settings.augment.max_side**2)
    resized = (amount.images + copies) * 0.5 * settings.resize.side**2
    weights = 3 * 4 * (settings.resize.side // 8) ** 2 * 128 * _ARTISTS
    downloads = 2 * amount.bytes if settings.fetch.source == "kaggle" else 0
    return downloads + 2 * (2 * amount.bytes + copies * per_copy + resized + weights)


def seconds(stage: str, settings: Params, amount: Amount) -> float:
    """Returns about how many seconds a stage takes on this machine.

    Args:
        stage: a name of dvc.yaml, such as train_red1 or export@red1.
    """
    step, _, model = stage.replace("train_red", "train@red").replace("_extra", "").partition("@")
    train, test = (amount.images * ratio for ratio in _ratios(settings))
    copies, count = len(settings.augment.copies), float(amount.images)
    match step:
        case "fetch" | "split":
            each = _image_seconds(step, settings, amount) + 2 * _PER_FILE
        case "augment":
            count, each = train, _image_seconds(step, settings, amount) + copies * _PER_FILE
        case "resize":
            count, each = amount.images - test + copies * train, _image_seconds(step, settings, amount) + _PER_FILE
        case "train" if model in STUDY:
            count, each = settings.train.epochs * (1 + copies) * train, _model_seconds(model, settings, training=True)
        case "train":
            # An epoch of fine-tuning takes about three forward passes.
            passes = 1 + 3 * settings.finetuned.fine_tune.epochs * (model == "finetuned")
            count, each = amount.images - test, passes * _model_seconds(model, settings) + _SVM
        case "export":
            count, each = amount.images - test, _model_seconds(model, settings)
        case "compare":
            count, each = 3 * test, _model_seconds("red1", settings)
        case _:
            count, each = test, _model_seconds(settings.model, settings)
    return _START.get(step, 1.0) + count * each


def _ratios(settings: Params) -> tuple[float, float]:
    """The shares of train and test."""
    split = settings.split
    test = 1 / split.folds if split.folds else split.test
    return (1 - test) * split.train / (split.train + split.val), test


def _time(work: Callable[[], object], repeat: int = 3) -> float:
    work()  # the first call also loads and allocates
    started = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - started) / repeat


def _image_seconds(step: str, settings: Params, amount: Amount) -> float:
    """Seconds of a stage for an image with the mean number of bytes of the source, on all cores."""
    augment, resize = settings.augment, settings.resize
    painted = sample.paint("School_of_Points", 1, Sample(schools=2, images=3, seed=0))
    scale = min(8, math.sqrt(amount.bytes / max(amount.images, 1) / len(decoding.jpeg(painted, quality=92))))
    tiled = np.tile(painted, (max(1, math.ceil(scale)),) * 2 + (1,))
    with tempfile.TemporaryDirectory() as folder:
        probe, written = Path(folder, "probe.jpg"), Path(folder, "written.jpg")
        decoding.write_jpeg(probe, decoding.shrink(tiled, max(1, round(max(painted.shape) * scale))), quality=92)

        def work() -> None:
            match step:
                case "fetch" if settings.fetch.source == "sample":
                    sample.paint("School_of_Points", 1, settings.fetch.sample)
                case "fetch":
                    checks.problem(probe.read_bytes(), 1e9)
                case "split":
                    candidates.read(probe.parent, probe.name)
                case "augment":
                    image = decoding.read_within(probe, augment.max_side)
                    for _, copy in transforms.copies(image, "probe", augment, settings.seed):
                        decoding.write_jpeg(written, copy, augment.quality)
                case "resize":
                    decoding.write_jpeg(written, decoding.read_resized(probe, resize.side), resize.quality)

        return _time(work) / workers.count()


def _model_seconds(name: str, settings: Params, training: bool = False) -> float:
    """Seconds of a model for an image: of a prediction, or of a training step of a study's model."""
    side, batch = settings.resize.side, settings.train.batch_size if training else 4
    policy = devices.precision(settings.train.precision) if training else "float32"
    match name:
        case "finetuned":
            # Random weights take the same time, and are not downloaded.
            untrained = settings.finetuned.model_copy(update={"weights": "none"})
            side, model = untrained.input_size, backbones.load(untrained)
        case "fisher":
            side = settings.fisher.input_size
            model = fisher.build(settings.fisher, side, _ARTISTS)
        case _:
            model = study.build(name, side, _ARTISTS, getattr(settings, name), policy)  # type: ignore[arg-type]
    images = np.zeros((batch, side, side, 3), np.uint8)
    if not training:
        return _time(lambda: model.predict_on_batch(images), repeat=1) / batch
    jobs.compile_model(model, settings.train, policy, steps=1)
    labels = np.eye(_ARTISTS, dtype=np.float32)[np.arange(batch) % _ARTISTS]
    return _time(lambda: model.train_on_batch(images, labels)) / batch
