"""How much work and disk a run takes here: measured in some seconds, on a few pictures and steps, and multiplied."""

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from redarte.networks import backbones, study
from redarte.params import STUDY, Finetuned, Params, Sample, StudyName, Train
from redarte.pictures import duplicates, images, transforms
from redarte.pictures.collection import checks, files
from redarte.pictures.sources import archive, sample
from redarte.runtime import workers
from redarte.training import devices, jobs

_START, _TENSORS_START = 1.0, 8.0  # seconds until a stage begins to work, without and with TensorFlow
_COPY, _PREDICTION = 0.0005, 0.01  # seconds to copy a picture, and to put it to a network; minor parts of the whole
_CACHED = 0.0004  # seconds in which DVC hashes a small file of a stage's inputs, or caches one of its outputs
_MIXTURE, _FISHER = 25.0, 0.02  # seconds for the mixture of fisher, and to describe a picture of 640 px
_REGIONS = 0.0125  # seconds in which its exported file finds out what each region of a picture gives, at any size
_SVM = {"fisher": 0.01, "finetuned": 0.02}  # seconds a training picture in which their last layer is fitted
_PAGE = 1.5  # seconds to write the report, whatever the number of pictures
_ARTISTS = 50
# The study's data set as Kaggle serves it: pictures, and bytes of the zip (about the same once unpacked).
_KAGGLE = (8_446, 2.2e9)
_SAMPLE_PICTURE = 125e3  # bytes
_LARGEST_PROBE = 8.0  # times as large, each way, as a picture of the sample: 30 megapixels


@dataclass(frozen=True)
class Amount:
    """How much the configured source holds."""

    pictures: int
    bytes: float
    extra: float = 0.0  # bytes that lie beside it while it is fetched


def source_amount(settings: Params) -> Amount | None:
    """How much the configured source holds; None where that is not known before it is fetched."""
    fetch = settings.fetch
    match fetch.source:
        case "sample":
            pictures = fetch.sample.schools * fetch.sample.pictures
            return Amount(pictures, pictures * _SAMPLE_PICTURE)
        case "kaggle":
            return Amount(*_KAGGLE, extra=2 * _KAGGLE[1])
        case "folder" if fetch.folder.path and Path(fetch.folder.path).expanduser().is_dir():
            folder = Path(fetch.folder.path).expanduser()
            sizes = [(folder / name).stat().st_size for name, reason in files.walk(folder) if reason is None]
            return Amount(len(sizes), float(sum(sizes)))
        case "archive" if fetch.archive.path and Path(fetch.archive.path).expanduser().is_file():
            return _count(archive.sizes(Path(fetch.archive.path).expanduser(), fetch.archive))
    return None


def bytes_needed(settings: Params, amount: Amount) -> float:
    """The bytes of a whole run: every output once in the workspace and once in DVC's cache."""
    copies = amount.pictures * _shares(settings)[0] * len(settings.augment.copies)
    # JPEG of these pictures at quality 92 to 95 takes about 0.3 bytes a pixel, and 0.5 once it is small.
    of_copy = min(amount.bytes / max(amount.pictures, 1), 0.3 * settings.augment.max_side**2)
    resized = (amount.pictures + copies) * 0.5 * settings.resize.side**2
    weights = 3 * 4 * (settings.resize.side // 8) ** 2 * 128 * _ARTISTS
    return amount.extra + 2 * (2 * amount.bytes + copies * of_copy + resized + weights)


def seconds(stage: str, settings: Params, amount: Amount) -> float:
    """About how many seconds a stage of dvc.yaml takes on this machine."""
    learned, test = (amount.pictures * share for share in _shares(settings))
    tested = amount.pictures - learned
    versions = learned * (1 + len(settings.augment.copies))
    step, _, network = stage.replace("train_red", "train@red").partition("@")
    match step:
        case "fetch":
            working = amount.pictures * (_COPY + _fetching(settings, amount) / workers.count())
            return _START + working + amount.pictures * _CACHED
        case "split":
            working = amount.pictures * (_COPY + _fingerprinting(amount) / workers.count())
            return _START + working + 2 * amount.pictures * _CACHED
        case "augment":
            return _START + learned * _augmenting(settings, amount) / workers.count() + versions * _CACHED
        case "resize":
            squares = versions + tested
            return _START + squares * (_resizing(settings, amount) / workers.count() + 2 * _CACHED)
        case "train" | "train_beyond":
            return _TENSORS_START + _training(network, settings, learned, tested, versions)
        case "export" | "export_beyond":
            # What was fitted to features that are computed once brings along those of the training pictures.
            fitted = network == "fisher" or (network == "finetuned" and not settings.finetuned.fine_tune.epochs)
            return _TENSORS_START + (tested if fitted else learned + tested) * _predicting(network, settings)
        case "compare":
            return _START + 3 * test * _PREDICTION
        case "report":
            return _START + _PAGE
        case _:
            return _START + test * _predicting(settings.model, settings)


def _shares(settings: Params) -> tuple[float, float]:
    """The shares of all pictures that are in train and in test."""
    split = settings.split
    test = 1 / split.folds if split.folds else split.test
    return (1 - test) * split.train / (split.train + split.val), test


@cache
def compiled(seed: int, settings: Train) -> bool:
    """Whether training steps are compiled here, which may have to be tried: see `devices.prepare`."""
    return devices.prepare(seed, settings)


def _training(network: str, settings: Params, learned: float, tested: float, versions: float) -> float:
    if network in STUDY:
        return settings.train.epochs * versions * _step(network, settings)
    if network == "finetuned":
        # An epoch of phase two takes about three forward passes.
        passes = (learned + tested) * (1 + 3 * settings.finetuned.fine_tune.epochs)
        # Epochs of a last layer alone, on features that are computed once, take no time beside them.
        fitted = 0.0 if settings.finetuned.head.epochs else learned * _SVM[network]
        return passes * _forward(settings.finetuned) + fitted
    if network == "fisher":
        return _MIXTURE + learned * _SVM[network] + (learned + tested) * _describing(settings)
    return 2 * (learned + tested) * _predicting(network, settings)


def _measured(work: Callable[[], object], times: int = 3) -> float:
    work()  # the first time also loads and allocates
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def _count(members: Iterable[tuple[str, int]]) -> Amount:
    sizes = [
        size
        for name, size in members
        if PurePosixPath(name).suffix.lower() in checks.SUFFIXES
        and not any(map(files.is_litter, PurePosixPath(name).parts))
    ]
    return Amount(len(sizes), float(sum(sizes)))


def _fetching(settings: Params, amount: Amount) -> float:
    if settings.fetch.source == "sample":
        return _measured(lambda: sample.paint("School_of_Points", 1, settings.fetch.sample))
    with _probe(amount) as picture:
        return _measured(lambda: checks.problem(picture.read_bytes(), 1e9))


def _fingerprinting(amount: Amount) -> float:
    with _probe(amount) as picture:
        return _measured(lambda: duplicates.read(picture.parent, picture.name))


def _augmenting(settings: Params, amount: Amount) -> float:
    with _probe(amount) as picture:
        written = picture.with_name("copy.jpg")

        def work() -> None:
            read = images.read_within(picture, settings.augment.max_side)
            for _, copy in transforms.copies(read, "probe", settings.augment, settings.seed):
                images.write_jpeg(written, copy, settings.augment.quality)

        return _measured(work)


def _resizing(settings: Params, amount: Amount) -> float:
    with _probe(amount) as picture:
        written = picture.with_name("square.jpg")
        side, quality = settings.resize.side, settings.resize.quality
        return _measured(lambda: images.write_jpeg(written, images.read_square(picture, side), quality))


@contextmanager
def _probe(amount: Amount) -> Iterator[Path]:
    """A picture with about as many bytes as those of the source, for the time of the block."""
    painted = sample.paint("School_of_Points", 1, Sample(schools=2, pictures=3, seed=0))
    wanted = amount.bytes / max(amount.pictures, 1)
    larger = min(_LARGEST_PROBE, math.sqrt(wanted / len(images.jpeg(painted, quality=92))))
    side = round(max(painted.shape) * larger)
    times = max(1, math.ceil(larger))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "probe.jpg")
        images.write_jpeg(file, images.shrink(np.tile(painted, (times, times, 1)), max(side, 1)), quality=92)
        yield file


def _step(name: StudyName, settings: Params) -> float:
    """Seconds a picture of one training step, in the precision that training would use."""
    side, batch = settings.resize.side, settings.train.batch_size
    policy = devices.precision(settings.train.precision)
    built = study.build(name, side, _ARTISTS, getattr(settings, name), policy)
    jit = compiled(settings.seed, settings.train)
    network = jobs.compile_network(built, settings.train, policy, steps=1, jit=jit)
    pictures = np.zeros((batch, side, side, 3), np.uint8)
    labels = np.eye(_ARTISTS, dtype=np.float32)[np.arange(batch) % _ARTISTS]
    return _measured(lambda: network.train_on_batch(pictures, labels)) / batch


def _predicting(network: str, settings: Params) -> float:
    """Seconds in which a trained network predicts for a picture."""
    match network:
        case "finetuned":
            return _forward(settings.finetuned)
        case "fisher":
            return _describing(settings) + _REGIONS
        case _:
            return _PREDICTION


def _describing(settings: Params) -> float:
    """Seconds in which fisher describes a picture."""
    return _FISHER * (settings.fisher.input_size / 640) ** 2


@cache
def _forward(chosen: Finetuned) -> float:
    """Seconds of a backbone's forward pass, a picture."""
    backbone = backbones.load(chosen)
    side = chosen.input_size
    pictures = np.zeros((8, side, side, 3), np.uint8)
    return _measured(lambda: backbone.predict_on_batch(pictures), times=1) / len(pictures)
