"""Buckets: the sizes that pictures are trained in. kohya's list and choice, as pure functions on numbers.

Facts from kohya's `BucketManager`: the list holds the square of the same area and, for each width, the tallest
height that keeps the area; a picture goes to the bucket whose aspect ratio is nearest, is resized to cover it, and
cropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lora_lab.dataset.options import DatasetOptions

Size = tuple[int, int]
"""Width, height in pixels."""


@dataclass(frozen=True)
class Placement:
    """How a picture comes into its bucket."""

    bucket: Size
    resized: Size
    """Covers the bucket: at least as wide and as high."""
    aspect_error: float
    """abs(bucket's aspect ratio - picture's), width / height."""

    @property
    def lost(self) -> float:
        """Share of the resized picture that the crop cuts off, 0..1."""
        return 1 - self.bucket[0] * self.bucket[1] / (self.resized[0] * self.resized[1])

    def centre(self) -> Size:
        """Left and top of the crop in the resized picture when it is centred."""
        return (self.resized[0] - self.bucket[0]) // 2, (self.resized[1] - self.bucket[1]) // 2

    def told(self, size: Size, flipped: bool) -> Size:
        """Left and top of the crop as SDXL is told of it, by kohya's rule.

        The picture of `size` is thought to be fitted inside the bucket, and half of what it leaves free is told: 0 on
        the way that is really cropped, a few pixels on the other. A flipped picture counts from its other side.
        """
        width, height = self.bucket
        ratio = size[0] / size[1]
        inner = (height * ratio, float(height)) if width / height > ratio else (float(width), width / ratio)
        left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
        return int(width - (left + inner[0]) if flipped else left), int(top)


def make_buckets(options: DatasetOptions) -> list[Size]:
    """All bucket sizes, sorted, sides multiples of bucket_reso_steps between the smallest and the largest side."""
    step = options.bucket_reso_steps
    low = options.min_bucket_reso // step * step or step
    high = -(-options.max_bucket_reso // step) * step
    area = options.resolution[0] * options.resolution[1]
    side = math.isqrt(area) // step * step
    found: set[Size] = {(side, side)} if side else set()
    for width in range(low, high + 1, step):
        height = min(high, area // width // step * step)
        if height >= low:
            found |= {(width, height), (height, width)}
    return sorted(found)


def place(size: Size, options: DatasetOptions, buckets: list[Size]) -> Placement:
    """The bucket of a picture of `size`, and how it is resized to cover it.

    Args:
        size: the picture's width and height, turned as its EXIF says.
        buckets: from `make_buckets` (which is not empty for options that pass their `check`).
    """
    if not options.enable_bucket:
        return _cover(size, options.resolution)
    if options.bucket_no_upscale:
        return _own_size(size, options)
    if size in buckets:
        return _cover(size, size)
    ratio = size[0] / size[1]
    return _cover(size, min(buckets, key=lambda bucket: abs(bucket[0] / bucket[1] - ratio)))


def _cover(size: Size, bucket: Size) -> Placement:
    """Resize so that the shorter way fits exactly; the longer one is rounded half up."""
    width, height = size
    if width * bucket[1] > height * bucket[0]:  # wider than the bucket: the height decides
        resized = (max(bucket[0], int(width * bucket[1] / height + 0.5)), bucket[1])
    else:
        resized = (bucket[0], max(bucket[1], int(height * bucket[0] / width + 0.5)))
    return Placement(bucket, resized, abs(bucket[0] / bucket[1] - width / height))


def _own_size(size: Size, options: DatasetOptions) -> Placement:
    """bucket_no_upscale: shrink to the area if the picture is larger, then cut the sides down to the step.

    Of the two ways to shrink (width on the step, or height on the step), kohya takes the one whose sides, both cut down
    to the step, are nearer to the picture's shape; the second on a draw.
    """
    step = options.bucket_reso_steps
    width, height = size
    area, ratio = options.resolution[0] * options.resolution[1], width / height
    resized = size
    if width * height > area:
        wide = math.sqrt(area * ratio)
        by_width, by_height = _floored(wide, step), _floored(area / wide, step)
        width_error = abs(by_width / _floored(by_width / ratio, step) - ratio)
        height_error = abs(_floored(by_height * ratio, step) / by_height - ratio)
        if width_error < height_error:
            resized = (by_width, max(1, int(by_width / ratio + 0.5)))
        else:
            resized = (max(1, int(by_height * ratio + 0.5)), by_height)
    bucket = (max(step, resized[0] // step * step), max(step, resized[1] // step * step))
    if bucket[0] > resized[0] or bucket[1] > resized[1]:
        return _cover(size, bucket)  # smaller than one step: it must be enlarged a little after all
    return Placement(bucket, resized, abs(bucket[0] / bucket[1] - ratio))


def _floored(side: float, step: int) -> int:
    """Rounded to whole pixels, then down to the step, at least one step (kohya would divide by nothing)."""
    return max(step, int(side + 0.5) // step * step)
