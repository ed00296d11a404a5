"""Overlays evidence maps on images."""

import cv2
import numpy as np

from redarte.images.decoding import ImageArray

_BRIGHTNESS = 0.55  # of the grey image
_MIN_CONTRAST = 64.0  # grey values: noise is not made an image
_MAX_OPACITY = 0.8  # of the colours, at the strongest evidence


def overlay(image: ImageArray, evidence: np.ndarray) -> ImageArray:
    """Colours the regions that speak for an artist, brighter for more evidence; regions that speak against stay
    grey.

    Args:
        image: (height, width, 3), uint8, RGB.
        evidence: (rows, columns), float, from `predictor.Predictor.evidence`.

    Returns:
        (height, width, 3), uint8, RGB.
    """
    height, width = image.shape[:2]
    heat = cv2.resize(np.maximum(evidence, 0).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    heat /= max(float(heat.max()), 1e-12)
    # Smoothed to the size of one position of the last block.
    sigma = max(height, width) / max(evidence.shape) / 2
    heat = np.clip(cv2.GaussianBlur(heat, (0, 0), sigma), 0, 1)
    heat /= max(float(heat.max()), 1e-12)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    # Grey, with the contrast of a bright image, and dimmed: the colours stand out on dark and colourful images alike.
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    dark, bright = np.percentile(grey, (1, 99))
    base = np.clip((grey - dark) / max(bright - dark, _MIN_CONTRAST), 0, 1)[..., None] * 255 * _BRIGHTNESS
    opacity = (_MAX_OPACITY * np.sqrt(heat))[..., None]
    return np.asarray(base * (1 - opacity) + colours * opacity).round().astype(np.uint8)
