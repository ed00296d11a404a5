"""Evidence maps, laid over the picture that they are about."""

import cv2
import numpy as np

from redarte.pictures.images import Picture

_DIMMED = 0.55
_STRONGEST = 0.8  # how much of the picture the strongest evidence covers


def overlay(picture: Picture, evidence: np.ndarray) -> Picture:
    """Colours the places that speak for an artist, the brighter the more; places that speak against stay grey.

    Args:
        picture: (height, width, 3) uint8, RGB.
        evidence: (rows, columns), as `predictor.Predictor.evidence` gives it.

    Returns:
        A picture of the same size.
    """
    height, width = picture.shape[:2]
    heat = cv2.resize(np.maximum(evidence, 0).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    heat /= max(float(heat.max()), 1e-12)
    # Smoothed to the size of what one place of the last block sees.
    spread = max(height, width) / max(evidence.shape) / 2
    heat = np.clip(cv2.GaussianBlur(heat, (0, 0), spread), 0, 1)
    heat /= max(float(heat.max()), 1e-12)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    # Grey and dimmed, so that the colours stand out of bright and of colourful pictures alike.
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32) * _DIMMED
    cover = (_STRONGEST * np.sqrt(heat))[..., None]
    return np.asarray(grey * (1 - cover) + colours * cover).round().astype(np.uint8)
