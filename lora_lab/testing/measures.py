"""What differs between pictures, in numbers and as a heat map: pure functions of Pillow's pictures. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
Array = NDArray[np.float32]


def pixels(image: Image.Image) -> Array:
    """(h, w, 3) in 0..1."""
    found: Array = np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
    return found


def pixel_distance(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of all channels, 0..1."""
    return float(np.abs(pixels(one) - pixels(other)).mean())


def perceptual_distance(one: Image.Image, other: Image.Image) -> float:
    """How different they look, 0 for the same: luma, its edges and colour, at several sizes.

    At each of the sizes 1, 1/2, 1/4 ... (down to 8 pixels) the mean absolute difference of brightness, of its
    gradients and of the two colour differences; the mean over sizes. A shift of a line by a pixel counts at the finest
    size only, another shape at all of them.
    """
    a, b = _opponent(one), _opponent(other)
    found = []
    while min(a.shape[:2]) >= 8:
        edges = sum(float(np.abs(np.diff(a[..., 0], axis=i) - np.diff(b[..., 0], axis=i)).mean()) for i in (0, 1))
        found.append(float(np.abs(a - b).mean()) + edges)
        a, b = _halved(a), _halved(b)
    return sum(found) / max(1, len(found))


def heat(pairs: Sequence[tuple[Image.Image, Image.Image]]) -> Array:
    """Where pictures differ: the mean over pairs of the largest channel's difference, smoothed; (h, w), 0..1."""
    found: Array = np.mean([np.abs(pixels(a) - pixels(b)).max(2) for a, b in pairs], axis=0, dtype=np.float32)
    padded = np.pad(found, 1, mode="edge")
    height, width = found.shape
    smooth: Array = np.mean(
        [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0, dtype=np.float32
    )
    return smooth


def heat_over(image: Image.Image, warmth: Array, most: float) -> Image.Image:
    """The picture in grey, with red where `warmth` is high (`most` is full red) and as it is grey where nothing is."""
    grey = (pixels(image) @ LUMA)[..., None].repeat(3, 2) * np.float32(0.7)
    share = np.clip(warmth / max(most, 1e-6), 0, 1)[..., None].astype(np.float32)
    colour = np.concatenate([np.ones_like(share), 0.75 * (1 - share), np.zeros_like(share)], 2)
    mixed = grey * (1 - 0.85 * share) + colour * 0.85 * share
    return Image.fromarray((mixed * 255).round().astype(np.uint8))


def saturation(image: Image.Image) -> float:
    """Mean of (max - min) / max over the pixels, 0..1."""
    found = pixels(image)
    top = found.max(2)
    return float(((top - found.min(2)) / np.maximum(top, 1 / 255)).mean())


def contrast(image: Image.Image) -> float:
    """Standard deviation of the brightness, 0..0.5."""
    return float((pixels(image) @ LUMA).std())


def fingerprint(image: Image.Image) -> NDArray[np.bool_]:
    """A perceptual hash of 128 bits: is each of 9 x 8 cells brighter than its right neighbour, of 8 x 9 the lower."""
    found = []
    for size, axis in (((9, 8), 1), ((8, 9), 0)):
        small = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.int16)
        found.append((np.diff(small, axis=axis) > 0).ravel())
    bits: NDArray[np.bool_] = np.concatenate(found)
    return bits


def likeness(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Share of equal bits of two fingerprints: 1 for copies, about 0.5 for strangers."""
    return float((one == other).mean())


def variety(images: Sequence[Image.Image]) -> float:
    """Mean perceptual distance of all pairs; 0 for fewer than two pictures."""
    pairs = [(a, b) for i, a in enumerate(images) for b in images[i + 1 :]]
    return sum(perceptual_distance(a, b) for a, b in pairs) / len(pairs) if pairs else 0.0


def _opponent(image: Image.Image) -> Array:
    """(h, w, 3): brightness, red against green, yellow against blue."""
    rgb = pixels(image)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    parts: Array = np.stack([rgb @ LUMA, (red - green) / 2, (red + green) / 4 - blue / 2], 2).astype(np.float32)
    return parts


def _halved(array: Array) -> Array:
    height, width = array.shape[0] // 2 * 2, array.shape[1] // 2 * 2
    cut = array[:height, :width]
    found: Array = (cut[::2, ::2] + cut[1::2, ::2] + cut[::2, 1::2] + cut[1::2, 1::2]) / np.float32(4)
    return found
