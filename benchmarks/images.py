"""Speed of augment and resize, compared with other libraries and with the minimum work.

    python -m benchmarks.images --images data/raw --repeat 5

augment: the study's six copies of each image, at most 512 px on the longer side, JPEG of quality 92. resize: images of
224×224 px, JPEG of quality 95, from the original images and from images of 12 megapixels. All methods use the same
number of processes, which are started beforehand. The methods run alternately; medians of images written per second
are printed. Augmentor is measured if it is installed (pip install Augmentor).
"""

import argparse
import importlib.util
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as albu
import cv2
import joblib
import numpy as np

from redarte import params
from redarte.images import folders
from redarte.images.dataset import shards
from redarte.params import Augment, Resize
from redarte.runtime import paths, workers
from redarte.stages import augment, resize

SIDE = 512
QUALITY = 92
BORDER = cv2.BORDER_REFLECT_101

Method = Callable[[Path, list[str], Path], None]


def decoded(path: Path) -> np.ndarray:
    """Decodes an image to BGR and shrinks it to at most SIDE px on the longer side."""
    image = np.asarray(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR))
    scale = SIDE / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image


def write(image: np.ndarray, path: Path, quality: int = QUALITY) -> None:
    cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tofile(path)


def bound(source: Path, target: Path, file: str) -> None:
    """The minimum work: decodes each image once and encodes it six times."""
    image = decoded(source / file)
    for number in range(6):
        write(image, target / f"{Path(file).stem}_{number}.jpg")


def opencv(source: Path, target: Path, file: str) -> None:
    """The six copies in plain OpenCV."""
    image = decoded(source / file)
    rng = np.random.default_rng(len(file))
    height, width = image.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    turned, larger = ((rng.uniform(-30, 30), 1.0), (0.0, rng.uniform(1.1, 1.5)))
    copies = [cv2.flip(image, 0), cv2.flip(image, 1)]
    for degrees, times in (turned, larger):
        matrix = cv2.getRotationMatrix2D(middle, degrees, times)
        copies.append(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=BORDER))
    for sign in (-1, 1):
        pixels = round(rng.uniform(0.1, 0.25) * width)
        padded = cv2.copyMakeBorder(image, 0, 0, pixels, pixels, BORDER)
        copies.append(padded[:, pixels + sign * pixels :][:, :width])
    for number, copy in enumerate(copies):
        write(copy, target / f"{Path(file).stem}_{number}.jpg")


def albumentations(source: Path, target: Path, file: str) -> None:
    """The six copies by albumentations, with a seed for each copy."""
    image = decoded(source / file)
    six = (
        albu.Rotate(limit=(-30, 30), border_mode=BORDER, p=1),
        albu.VerticalFlip(p=1),
        albu.HorizontalFlip(p=1),
        albu.Affine(scale=(1.1, 1.5), border_mode=BORDER, p=1),
        albu.Affine(translate_percent={"x": (-0.25, -0.1), "y": (0, 0)}, border_mode=BORDER, p=1),
        albu.Affine(translate_percent={"x": (0.1, 0.25), "y": (0, 0)}, border_mode=BORDER, p=1),
    )
    for number, one in enumerate(six):
        copy = albu.Compose([one], seed=number)(image=image)["image"]
        write(copy, target / f"{Path(file).stem}_{number}.jpg")


def pooled(work: Callable[[Path, Path, str], None]) -> Method:
    def run(source: Path, files: list[str], target: Path) -> None:
        joblib.Parallel(n_jobs=workers.count())(joblib.delayed(work)(source, target, file) for file in files)

    return run


def redarte_augment(settings: Augment) -> Method:
    def run(source: Path, files: list[str], target: Path) -> None:
        for artist in {Path(file).parent for file in files}:
            (target / artist).mkdir()
        for _ in workers.map_parallel(partial(augment.write_copies, target, settings, 0), files, "augmenting"):
            pass

    return run


def augmentor(source: Path, files: list[str], target: Path) -> None:
    """Augmentor, with its threads, one pipeline for each kind of copy."""
    import Augmentor

    # Augmentor prints its progress.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        pipelines = [Augmentor.Pipeline(str(source), str(target)) for _ in range(5)]
        # Augmentor's rotate, which crops, fails on tall images.
        pipelines[0].rotate_without_crop(probability=1, max_left_rotation=30, max_right_rotation=30, expand=False)
        pipelines[1].flip_top_bottom(probability=1)
        pipelines[2].flip_left_right(probability=1)
        pipelines[3].zoom(probability=1, min_factor=1.1, max_factor=1.5)
        # Augmentor has no shift; a skew to the left or right is the most similar operation.
        pipelines[4].skew_left_right(probability=1)
        for pipeline in [*pipelines, pipelines[4]]:
            pipeline.process()


def image_data_generator(source: Path, files: list[str], target: Path) -> None:
    """Keras' ImageDataGenerator with save_to_dir, in six passes over the images. It requires a size: 480 px."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    how = {"rotation_range": 30, "zoom_range": (0.67, 0.91), "width_shift_range": 0.25, "vertical_flip": True}
    generator = ImageDataGenerator(**how, horizontal_flip=True, fill_mode="reflect")
    flow = generator.flow_from_directory(
        source, target_size=(480, 480), batch_size=32, save_to_dir=target, save_format="jpeg", shuffle=False
    )
    for _ in range(6 * len(flow)):
        next(flow)


def opencv_resize(source: Path, target: Path, file: str) -> None:
    """Decodes, resizes and encodes in plain OpenCV."""
    image = cv2.imdecode(np.fromfile(source / file, np.uint8), cv2.IMREAD_COLOR)
    write(cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA), target / f"{Path(file).stem}.jpg", 95)


def redarte_resize(settings: Resize) -> Method:
    def run(source: Path, files: list[str], target: Path) -> None:
        work = partial(resize.resized_jpeg, settings)
        contents = workers.map_parallel(work, [source / file for file in files], "resizing")
        resize.write_shard(target / "all.tar", zip(files, contents, strict=True))

    return run


def spread(files: list[str], count: int) -> list[str]:
    """At most `count` files, spread over all artists."""
    count = min(count, len(files))
    return [files[number * len(files) // count] for number in range(count)]


def large(files: list[Path], target: Path) -> None:
    """Writes the given images enlarged to 12 megapixels."""
    (target / "Large").mkdir(parents=True)
    for number, file in enumerate(files):
        image = cv2.resize(decoded(file), (4000, 3000), interpolation=cv2.INTER_CUBIC)
        write(image, target / "Large" / f"{number}.jpg")


def table(title: str, methods: dict[str, Method], source: Path, repeat: int, copies: int) -> None:
    """Runs the methods alternately, once to warm up; prints how many images each writes per second."""
    files = folders.list_images(source)
    speeds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(repeat + 1):
        for name, run in methods.items():
            with tempfile.TemporaryDirectory() as target:
                started = time.perf_counter()
                run(source, files, Path(target))
                seconds = time.perf_counter() - started
                written = sum(1 for path in Path(target).rglob("*") if path.is_file() and path.suffix != ".tar")
                written += sum(len(shards.members(shard)) for shard in shards.files(Path(target)))
            assert written >= 0.99 * copies * len(files), f"{name} wrote {written}"
            if turn:
                speeds[name].append(written / seconds)
    first = statistics.median(next(iter(speeds.values())))
    print(f"\n{title}: {len(files)} images, {workers.count()} processes, medians of {repeat}")
    print(f"| | images/s | ratio to {next(iter(speeds))} |")
    print("| --- | --- | --- |")
    for name, runs in speeds.items():
        median = statistics.median(runs)
        print(f"| {name} | {median:.0f} ({min(runs):.0f} to {max(runs):.0f}) | {median / first:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("data/raw"), help="a class-per-folder tree")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="without Augmentor and ImageDataGenerator")
    options = parser.parse_args()
    settings = params.load()
    copying: dict[str, Method] = {
        "decode once, encode six": pooled(bound),
        "redarte augment": redarte_augment(settings.augment),
        "plain OpenCV": pooled(opencv),
        "albumentations": pooled(albumentations),
    }
    if not options.quick:
        if importlib.util.find_spec("Augmentor"):
            copying["Augmentor"] = augmentor
        copying["ImageDataGenerator"] = image_data_generator
    resized: dict[str, Method] = {
        "plain OpenCV": pooled(opencv_resize),
        "redarte resize": redarte_resize(settings.resize),
    }
    source = options.images.resolve()
    listed = folders.list_images(source)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        chosen = paths.SPLIT / "train"
        for file in spread(listed, options.count):
            (chosen / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, chosen / file)
        table("augment", copying, chosen, options.repeat, copies=6)
        table("resize", resized, chosen, options.repeat, copies=1)
        large([chosen / file for file in folders.list_images(chosen)[:40]], Path("big"))
        table("resize, 12 megapixels", resized, Path("big"), options.repeat, copies=1)


if __name__ == "__main__":
    main()
