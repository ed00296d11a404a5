"""Colour profiles (ICC.1:2010), written byte by byte, whose meaning can be worked out by hand."""

import struct

import numpy as np

# The columns of Display P3 and of sRGB, adapted to D50 as in a profile: what red, green and blue are in XYZ.
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
_D50 = (0.9642, 1.0, 0.8249)


def rgb(columns: np.ndarray, gamma: float) -> bytes:
    """A profile of a display with these primaries."""
    tags = {b"wtpt": _xyz(_D50)}
    for name, column in zip("rgb", columns.T, strict=True):
        tags[f"{name}XYZ".encode()] = _xyz(column)
        tags[f"{name}TRC".encode()] = _gamma(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(_D50), b"kTRC": _gamma(gamma)})


def cmyk(lightness: int) -> bytes:
    """A printer profile with a constant grey for every combination of inks except black."""
    identity = bytes(range(256))
    table = struct.pack(">4s4xBBBx9i", b"mft1", 4, 3, 2, *[65536 if n % 4 == 0 else 0 for n in range(9)])
    table += identity * 4 + bytes([lightness, 128, 128, 0, 128, 128]) * 2**3 + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz(_D50), b"A2B0": table})


def in_srgb(colours: np.ndarray, columns: np.ndarray, gamma: float) -> np.ndarray:
    """Converts colours (n, 3) of 0 to 255 of such a display to sRGB (IEC 61966-2-1), clipped."""
    linear = np.linalg.inv(SRGB) @ columns @ ((colours / 255) ** gamma).T
    return encoded(linear.T)


def encoded(linear: np.ndarray) -> np.ndarray:
    """Shares of light as sRGB's numbers."""
    share = np.clip(linear, 0, 1)
    return np.asarray(255 * np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)).round()


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _described(b"made"), **tags}
    offset, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += struct.pack(">4sII", name, offset + len(data), len(content))
        data += content
    size = 128 + len(table) + len(data)
    header = struct.pack(">I4xI4s4s4s12x4s24x", size, 0x02400000, kind, space, connection, b"acsp")
    header += struct.pack(">I3i", 0, *_fixed(_D50))
    return header.ljust(128, b"\0") + table + data


def _described(text: bytes) -> bytes:
    return struct.pack(">4s4xI", b"desc", len(text) + 1) + text + b"\0" + b"\0" * 78


def _xyz(values: "tuple[float, ...] | np.ndarray") -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *_fixed(values))


def _gamma(gamma: float) -> bytes:
    return struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256))


def _fixed(values: "tuple[float, ...] | np.ndarray") -> list[int]:
    return [round(float(value) * 65536) for value in values]
