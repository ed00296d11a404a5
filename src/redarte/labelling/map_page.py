"""The map of `redarte label-issues`: one HTML file with every image, similar ones beside each other."""

import math
from pathlib import Path

import numpy as np
import sklearn
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from redarte.images import folders
from redarte.images.folders import display_name
from redarte.labelling import label_page
from redarte.labelling.corrections_file import images_digest
from redarte.labelling.findings import Findings
from redarte.reporting import pages
from redarte.reporting.pages import as_uri
from redarte.runtime import outputs, paths, provenance
from redarte.runtime.cache import Cache

_TEMPLATE = Path(__file__).with_name("map_page.html.j2")
_COMPONENTS = 50  # of the embeddings, as L. van der Maaten and G. Hinton, "Visualizing data using t-SNE" (2008)
_PERPLEXITY = 30.0
_SHEET = 2048  # px: the side of a sheet of images; the canvas of a phone takes 4096
_PIXELS = 35e6  # of all sheets: 8,446 images have 64 px each
_SIDES = (16, 160)  # px of an image, at least and at most
_QUALITY = 70
_PRECISION = 10_000  # of a position


def write(findings: Findings) -> None:
    """Writes plots/map.html."""
    outputs.write_text(paths.MAP_PAGE, render(findings))


def render(findings: Findings) -> str:
    """Returns the page."""
    judgement, count = findings.judgement, len(findings.sources)
    side = int(np.clip(math.sqrt(_PIXELS / count), *_SIDES))
    sheets, sizes = _sheets(findings, side)
    values = {
        "model": findings.model,
        "images_digest": images_digest(),
        "sheets": sheets,
        "map": {
            "side": side,
            "columns": _SHEET // side,
            "artists": [display_name(artist) for artist in judgement.artists],
            "places": (places(judgement.embeddings) * _PRECISION).round().astype(int).tolist(),
            "precision": _PRECISION,
            "sizes": sizes,
            "sources": findings.sources,
            "files": [file.relative_to(paths.DATA).as_posix() for file in findings.files],
            "labels": judgement.labels.tolist(),
            "predicted": judgement.predicted.tolist(),
            "probabilities": judgement.self_confidence.round(3).tolist(),
            "judged": judgement.judged.astype(int).tolist(),
            "rows": sorted(label_page.shown(findings)),
            "groups": findings.groups,
        },
    }
    return pages.render(_TEMPLATE, values)


def places(embeddings: np.ndarray) -> np.ndarray:
    """Places images in two dimensions by t-SNE: similar ones are neighbours. Equal embeddings give equal places.

    They are kept: a corrected label changes no embedding.

    Args:
        embeddings: (n, features), float32, L2-normalised.

    Returns:
        (n, 2), float64, 0 to 1; both axes have the same scale.
    """
    stored = Cache(f"places-{provenance.code_digest('labelling/map_page.py')[:16]}", [sklearn.__version__])
    name = folders.content_hash(np.ascontiguousarray(embeddings).tobytes())
    kept = stored.read(name)
    if kept is not None:
        return kept
    if not np.ptp(embeddings, axis=0).any():
        return np.full((len(embeddings), 2), 0.5)
    reduced = PCA(min(_COMPONENTS, *embeddings.shape), random_state=0).fit_transform(embeddings)
    # Threads of OpenMP add up in any order, which many iterations make visible.
    with threadpool_limits(1):
        found = TSNE(
            perplexity=min(_PERPLEXITY, (len(reduced) - 1) / 3), init="pca", random_state=0, n_jobs=1
        ).fit_transform(reduced)
    spread = np.ptp(found, axis=0)
    largest = max(float(spread.max()), 1e-12)
    result = np.asarray((found - found.min(axis=0) + (largest - spread) / 2) / largest, np.float64)
    stored.write(name, result)
    return result


def _sheets(findings: Findings, side: int) -> tuple[list[str], list[tuple[int, int]]]:
    """All images in squares of a side on sheets, as data URIs, and the width and height of each image."""
    columns, uris, sizes = _SHEET // side, [], []
    for start in range(0, len(findings.sources), columns**2):
        images = findings.read(range(start, min(start + columns**2, len(findings.sources))), side)
        sheet = np.full((-(-len(images) // columns) * side, columns * side, 3), 255, np.uint8)
        for place, image in enumerate(images.values()):
            top, left = (side * number for number in divmod(place, columns))
            sheet[top : top + len(image), left : left + image.shape[1]] = image
            sizes.append((image.shape[1], len(image)))
        uris.append(as_uri(sheet, _QUALITY))
    return uris, sizes
