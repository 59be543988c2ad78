"""Corrupted copies of images: one function a corruption, severity 1 to 5."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.float32]
SEVERITIES = (1, 2, 3, 4, 5)


def noise(images: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Gaussian noise of standard deviation 0.04 to 0.26."""
    sigma = (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1]
    return _clip(images + sigma * rng.standard_normal(images.shape))


def blur(images: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Gaussian blur of a quarter pixel and 1.2 to 6 % of the side."""
    from scipy import ndimage

    sigma = 0.25 + (0.012, 0.02, 0.03, 0.045, 0.06)[severity - 1] * min(images.shape[2:])
    return _clip(ndimage.gaussian_filter(images, (0, 0, sigma, sigma)))


def contrast(images: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Contrast reduced to 75 to 15 % around each image's mean."""
    factor = (0.75, 0.6, 0.45, 0.3, 0.15)[severity - 1]
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return _clip(mean + factor * (images - mean))


def rotation(images: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Rotation by plus or minus 5 to 30 degrees, half of the images each way."""
    from scipy import ndimage

    angle = (5, 10, 15, 22, 30)[severity - 1]
    out = images.copy()
    for sign, part in ((1, slice(0, None, 2)), (-1, slice(1, None, 2))):
        if len(images[part]):
            out[part] = ndimage.rotate(
                images[part], sign * angle, axes=(2, 3), reshape=False, order=1, mode="nearest"
            )
    return _clip(out)


def translation(images: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Shift by 4 to 20 % of the side in one of four diagonal directions, edges repeated."""
    share = (0.04, 0.08, 0.12, 0.16, 0.20)[severity - 1]
    height, width = images.shape[2:]
    down, right = max(1, round(share * height)), max(1, round(share * width))
    padded = np.pad(images, ((0, 0), (0, 0), (down, down), (right, right)), mode="edge")
    out = images.copy()
    for number, (i, j) in enumerate(((0, 0), (0, 2), (2, 0), (2, 2))):
        part = slice(number, None, 4)
        out[part] = padded[part, :, i * down : i * down + height, j * right : j * right + width]
    return out


def jpeg(images: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """JPEG at quality 60 to 8."""
    from PIL import Image

    quality = (60, 40, 25, 15, 8)[severity - 1]
    out = np.empty_like(images)
    for number, image in enumerate(np.round(images * 255).astype(np.uint8)):
        grey = image.shape[0] == 1
        file = io.BytesIO()
        picture = Image.fromarray(image[0] if grey else np.moveaxis(image[:3], 0, 2))
        picture.save(file, "JPEG", quality=quality)
        back = np.asarray(Image.open(file), dtype=np.float32) / 255
        out[number] = back[None] if grey else np.moveaxis(back, 2, 0)
    return out


def _clip(images: NDArray[Any]) -> Pixels:
    clipped: Pixels = np.clip(images, 0, 1).astype(np.float32)
    return clipped


CORRUPTIONS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "rotation": rotation,
    "translation": translation,
    "jpeg": jpeg,
}
