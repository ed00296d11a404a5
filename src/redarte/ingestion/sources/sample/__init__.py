"""The source sample: invented schools of painting, drawn from a seed, to try the pipeline offline and at once.

Each school has a style. The palettes are shared by all schools, and many images are influenced by another school, so
that the classification is not trivial.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from redarte.images import decoding
from redarte.params import Fetch, Sample
from redarte.runtime import workers

# Palettes: the ground, then the colours (RGB).
_PALETTES = (
    ("f4ead5", "c0392b", "1f4e8c", "e8b820", "1b1b1e"),  # primaries on linen
    ("101820", "f2a541", "f08a4b", "d78a76", "7a9e9f"),  # lamplight
    ("e9e4d8", "2f5d62", "5e8b7e", "a7c4bc", "dfa878"),  # lagoon
    ("2b1d24", "8c2f39", "b23a48", "fcb9b2", "fed0bb"),  # wine
    ("f7f3e9", "335c67", "e09f3e", "9e2a2b", "540b0e"),  # harvest
    ("dfe7ec", "22333b", "5e503f", "c6ac8f", "4f7cac"),  # winter
    ("1d2d44", "3e5c76", "748cab", "f0ebd8", "e4b363"),  # night
    ("fbf5e6", "6b9080", "a4c3b2", "ee6c4d", "3d5a80"),  # garden
)
_LONG_SIDE = (420, 900)  # px
_ASPECT = (0.62, 1.6)  # width over height
_INFLUENCED = 0.2  # share of the images that are influenced by another school
_OWN_PALETTE = 0.75  # share of the images in the school's own palette; the others are in any palette

Colours = np.ndarray[tuple[int, int], np.dtype[np.float32]]  # ground first
Canvas = decoding.ImageArray
Style = Callable[[np.random.Generator, Canvas, Colours], None]


def fetch_files(settings: Fetch, scratch: Path) -> Path:
    """Draws the sample: scratch/<School>/<School>_<n>.jpg.

    Args:
        scratch: an empty folder.
    """
    schools = list(SCHOOLS)[: settings.sample.schools]
    for school in schools:
        (scratch / school).mkdir()
    works = [(school, number) for school in schools for number in range(1, settings.sample.images + 1)]
    for _ in workers.map_parallel(partial(_paint_file, settings.sample, scratch), works, "painting"):
        pass
    return scratch


def paint(school: str, number: int, settings: Sample) -> decoding.ImageArray:
    """Paints one image.

    Args:
        number: the number of the image within the school, from 1.

    Returns:
        RGB, (height, width, 3), uint8; the longer side has 420 to 900 px, the shorter one 300 or more.
    """
    schools = list(SCHOOLS)[: settings.schools]
    rng = np.random.default_rng([settings.seed, schools.index(school), number])
    width, height = _size(rng)
    own = rng.random() < _OWN_PALETTE
    colours = _palette(rng, schools.index(school) if own else int(rng.integers(len(_PALETTES))))
    canvas = _blank(height, width, colours)
    SCHOOLS[school](rng, canvas, colours)
    if rng.random() < _INFLUENCED:
        other = rng.choice([name for name in schools if name != school])
        _under_influence(rng, canvas, colours, SCHOOLS[other])
    return _finish(rng, canvas)


def _paint_file(settings: Sample, folder: Path, work: tuple[str, int]) -> None:
    school, number = work
    image = paint(school, number, settings)
    decoding.write_jpeg(folder / school / f"{school}_{number}.jpg", image, quality=92)


def _size(rng: np.random.Generator) -> tuple[int, int]:
    long_side = int(rng.integers(*_LONG_SIDE))
    aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    short_side = max(300, round(long_side * min(aspect, 1 / aspect)))
    return (long_side, short_side) if aspect > 1 else (short_side, long_side)


def _palette(rng: np.random.Generator, number: int) -> Colours:
    """One of the palettes, with slightly varied colours, sometimes on another ground."""
    names = _PALETTES[number]
    colours = np.array([[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in names], np.float32)
    colours[1:] = rng.permutation(colours[1:])
    if rng.random() < 0.3:
        colours[[0, 1]] = colours[[1, 0]]
    return np.clip(colours + rng.normal(0, 9, colours.shape), 0, 255).astype(np.float32)


def _under_influence(rng: np.random.Generator, canvas: Canvas, colours: Colours, style: Style) -> None:
    """Paints a soft-edged part of the canvas in the style of another school."""
    height, width = canvas.shape[:2]
    other = canvas.copy() if rng.random() < 0.5 else _blank(height, width, colours)
    style(rng, other, colours)
    angle, cut = rng.uniform(0, 2 * math.pi), rng.uniform(0.25, 0.5)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle) + 0.5
    weight = np.clip((cut - along) * 9 + 0.5, 0, 1)[..., None] * rng.uniform(0.6, 1.0)
    _lay(canvas, canvas + (other.astype(np.float32) - canvas) * weight)


def _finish(rng: np.random.Generator, canvas: Canvas) -> decoding.ImageArray:
    """Adds the weave of the canvas, uneven varnish and light from one side."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    weave = np.sin(x * 2.1) * np.sin(y * 2.1) * 2.5
    cloud = _clouds(rng, height, width, 90) * 7
    light = ((x / width - 0.5) * rng.uniform(-1, 1) + (y / height - 0.5) * rng.uniform(-1, 1)) * 22
    grain = rng.normal(0, 3.0, (height, width))
    finished = canvas + (weave + cloud + light + grain)[..., None]
    _lay(canvas, finished)
    return canvas


def _blank(height: int, width: int, colours: Colours) -> Canvas:
    return np.full((height, width, 3), colours[0].round(), np.uint8)


def _lay(canvas: Canvas, paint: np.ndarray) -> None:
    """Writes values of any number type to the canvas."""
    canvas[:] = np.clip(paint, 0, 255).round()


def _clouds(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    """Smooth noise of about -1 to 1 with features of about `scale` px."""
    small = rng.normal(0, 1, (max(3, int(height / scale) + 3), max(3, int(width / scale) + 3)))
    noise = cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(noise * 0.6)


def _pick(rng: np.random.Generator, colours: Colours, first: int = 1) -> tuple[float, float, float]:
    r, g, b = np.clip(colours[rng.integers(first, len(colours))] + rng.normal(0, 8, 3), 0, 255)
    return float(r), float(g), float(b)


def _lattice(rng: np.random.Generator, canvas: Canvas, colours: Colours) -> None:
    """Grids of flat colour between dark bars."""
    height, width = canvas.shape[:2]
    xs = np.sort(rng.integers(0, width, rng.integers(2, 6))).tolist()
    ys = np.sort(rng.integers(0, height, rng.integers(2, 6))).tolist()
    for left, right in zip([0, *xs], [*xs, width], strict=True):
        for top, bottom in zip([0, *ys], [*ys, height], strict=True):
            if rng.random() < 0.5:
                cv2.rectangle(canvas, (left, top), (right, bottom), _pick(rng, colours), -1)
    bar = colours[np.argmin(colours.sum(axis=1))].tolist()
    thick = int(rng.integers(6, 18))
    for x in xs:
        cv2.line(canvas, (x, 0), (x, height), bar, thick)
    for y in ys:
        cv2.line(canvas, (0, y), (width, y), bar, thick)


def _points(rng: np.random.Generator, canvas: Canvas, colours: Colours) -> None:
    """Fields of dots, whose mixture the eye makes."""
    height, width = canvas.shape[:2]
    radius = float(rng.uniform(3.0, 8.0))
    field = _clouds(rng, height, width, rng.uniform(80, 220))
    levels = np.clip((field + 0.9) / 1.8 * (len(colours) - 1), 0, len(colours) - 2).astype(int) + 1
    count = int(height * width / (radius * radius * 3.2))
    for x, y, size in zip(
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        rng.uniform(0.6, 1.3, count),
        strict=True,
    ):
        base = colours[levels[y, x]] if rng.random() < 0.75 else np.array(_pick(rng, colours, 0))
        colour = np.clip(base + rng.normal(0, 14, 3), 0, 255).tolist()
        cv2.circle(canvas, (int(x), int(y)), max(1, round(radius * size)), colour, -1, cv2.LINE_AA)


def _drips(rng: np.random.Generator, canvas: Canvas, colours: Colours) -> None:
    """Thrown paint: long loops of changing thickness, and spatter."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(22, 48))):
        steps = int(rng.integers(40, 120))
        turn = np.cumsum(rng.normal(0, 0.32, steps)) + rng.uniform(0, 2 * math.pi)
        stride = rng.uniform(6, 15)
        x = rng.uniform(0, width) + np.cumsum(np.cos(turn)) * stride
        y = rng.uniform(0, height) + np.cumsum(np.sin(turn)) * stride
        colour = _pick(rng, colours)
        thick = np.abs(rng.normal(4.5, 2.2) + np.cumsum(rng.normal(0, 0.4, steps)))
        points = np.stack([x, y], axis=1).round().astype(int)
        for a, b, t in zip(points[:-1], points[1:], thick, strict=False):
            cv2.line(canvas, a.tolist(), b.tolist(), colour, int(np.clip(t, 1, 12)), cv2.LINE_AA)
    for _ in range(int(rng.integers(60, 220))):
        at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(canvas, at, int(rng.integers(1, 6)), _pick(rng, colours), -1, cv2.LINE_AA)


def _geometry(rng: np.random.Generator, canvas: Canvas, colours: Colours) -> None:
    """Bars, discs and triangles that float on an empty ground."""
    height, width = canvas.shape[:2]
    tilt = rng.uniform(0, 180)
    for _ in range(int(rng.integers(7, 16))):
        at = np.array([rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height])
        reach = min(height, width) * rng.uniform(0.05, 0.3)
        colour, kind = _pick(rng, colours), rng.integers(4)
        if kind == 0:
            cv2.circle(canvas, at.astype(int).tolist(), int(reach * 0.6), colour, -1, cv2.LINE_AA)
            continue
        angle = tilt + rng.choice([0, 90, 45]) + rng.normal(0, 6)
        if kind == 1:
            corners = np.array([[0, -1], [0.9, 0.6], [-0.9, 0.6]]) * reach * 0.8
        else:
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [reach, reach * rng.uniform(0.06, 0.6)]
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turned = (corners @ np.array([[c, s], [-s, c]]) + at).round().astype(np.int32)
        cv2.fillPoly(canvas, [turned], colour, cv2.LINE_AA)


def _rings(rng: np.random.Generator, canvas: Canvas, colours: Colours) -> None:
    """Discs of concentric colour, cut into quarters that change places."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(int(rng.integers(2, 7))):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        radius, bands = min(height, width) * rng.uniform(0.2, 0.6), int(rng.integers(4, 9))
        distance = np.hypot(x - cx, y - cy) * (1 + _clouds(rng, height, width, 120) * 0.03)
        quarter = np.floor((np.arctan2(y - cy, x - cx) + rng.uniform(0, 6)) / (math.pi / 2)).astype(int) % 4
        band = (distance / radius * bands).astype(int)
        order = rng.integers(0, len(colours), (4, bands))
        inside = band < bands
        canvas[inside] = colours[order[quarter[inside], band[inside]]].round()


def _horizons(rng: np.random.Generator, canvas: Canvas, colours: Colours) -> None:
    """Land or sea under a wide sky, with a low sun."""
    height, width = canvas.shape[:2]
    horizon = int(height * rng.uniform(0.35, 0.7))
    top, low = np.array(_pick(rng, colours, 0)), np.array(_pick(rng, colours, 0))
    blend = np.linspace(0, 1, horizon)[:, None, None] ** rng.uniform(0.6, 1.6)
    _lay(canvas[:horizon], top + (low - top) * blend + _clouds(rng, horizon, width, 70)[..., None] * 16)
    if rng.random() < 0.7:
        at = (int(rng.uniform(0.15, 0.85) * width), int(horizon * rng.uniform(0.4, 1.0)))
        cv2.circle(canvas, at, int(min(height, width) * rng.uniform(0.03, 0.1)), _pick(rng, colours), -1, cv2.LINE_AA)
    canvas[horizon:] = np.round(_pick(rng, colours))
    edge = np.arange(width)
    for y in np.linspace(horizon, height, int(rng.integers(4, 9)))[:-1]:
        hills = y + _clouds(rng, 1, width, rng.uniform(60, 200))[0] * height * 0.05
        outline = np.concatenate([np.stack([edge, hills], axis=1), [[width, height], [0, height]]])
        cv2.fillPoly(canvas, [outline.round().astype(np.int32)], _pick(rng, colours), cv2.LINE_AA)


def _currents(rng: np.random.Generator, canvas: Canvas, colours: Colours) -> None:
    """Short strokes that follow a swirling current."""
    height, width = canvas.shape[:2]
    angle = _clouds(rng, height, width, rng.uniform(120, 260)) * 3.0
    shade = _clouds(rng, height, width, 150)
    length, thick = rng.uniform(14, 30), int(rng.integers(3, 7))
    count = int(height * width / (length * thick * 0.8))
    for x, y in zip(rng.integers(0, width, count), rng.integers(0, height, count), strict=True):
        level = int(np.clip((shade[y, x] + 0.9) / 1.8 * len(colours), 0, len(colours) - 1))
        colour = np.clip(colours[level] + rng.normal(0, 14, 3), 0, 255).tolist()
        end = (int(x + math.cos(angle[y, x]) * length), int(y + math.sin(angle[y, x]) * length))
        cv2.line(canvas, (int(x), int(y)), end, colour, thick, cv2.LINE_AA)


def _facets(rng: np.random.Generator, canvas: Canvas, colours: Colours) -> None:
    """The subject broken into shaded splinters."""
    height, width = canvas.shape[:2]
    plan = cv2.Subdiv2D((-width, -height, 3 * width, 3 * height))
    for _ in range(int(rng.integers(25, 70))):
        plan.insert((float(rng.uniform(0, width)), float(rng.uniform(0, height))))
    faces, _ = plan.getVoronoiFacetList([])
    for face in faces:
        outline = np.round(face).astype(np.int32)
        cv2.fillPoly(canvas, [outline], _pick(rng, colours, 0), cv2.LINE_AA)
        cv2.polylines(canvas, [outline], True, colours[np.argmin(colours.sum(axis=1))].tolist(), 2, cv2.LINE_AA)
    _lay(canvas, canvas + _clouds(rng, height, width, 60)[..., None] * 14)


SCHOOLS: dict[str, Style] = {
    "School_of_Lattices": _lattice,
    "School_of_Points": _points,
    "School_of_Drips": _drips,
    "School_of_Geometry": _geometry,
    "School_of_Rings": _rings,
    "School_of_Horizons": _horizons,
    "School_of_Currents": _currents,
    "School_of_Facets": _facets,
}
