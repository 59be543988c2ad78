"""The preprocessings worth trying for an input of a given shape, most common first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from auditor.samples.preprocessing import Overrides, Preprocessing

COMMON_SIDES = (28, 32, 64, 96, 128, 224, 256, 299)
_PADDABLE = 8


@dataclass(frozen=True, slots=True)
class Values:
    """A common way to scale pixels; `mean` and `std` hold for the channel counts they fit."""

    label: str
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: str = "rgb"


COMMON_VALUES = (
    Values("0..1"),
    Values("-1..1", 1.0, (0.5,), (0.5,)),
    Values("0..255", 255.0),
    Values("MNIST mean/std", 1.0, (0.1307,), (0.3081,)),
    Values("Fashion-MNIST mean/std", 1.0, (0.2860,), (0.3530,)),
    Values("CIFAR-10 mean/std", 1.0, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    Values("CIFAR-10 mean/std (0.20)", 1.0, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    Values("CIFAR-100 mean/std", 1.0, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    Values("ImageNet mean/std", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    Values("-0.5..0.5", 1.0, (0.5,), (1.0,)),
    Values("-128..127", 255.0, (128.0,), (1.0,)),
    Values("1-x (inverted)", -1.0, (-1.0,), (1.0,)),
    Values("Caffe BGR mean", 255.0, (103.939, 116.779, 123.68), (1.0,), order="bgr"),
)

Shape = tuple[int | str | None, ...]


def geometries(
    shape: Shape | None, image: tuple[int, int, int], overrides: Overrides
) -> Iterator[Preprocessing]:
    """Layout, size and channel candidates for a native input `shape` and samples of (C, H, W).

    `shape` includes the batch axis; None means nothing is known (scripted TorchScript).
    """
    for base in _by_shape(shape, image):
        if overrides.layout is not None and base.layout != overrides.layout:
            continue
        if overrides.size is not None and base.size != overrides.size:
            if _known_size(shape, base.layout):
                continue
            base = replace(base, size=overrides.size)
        yield base
        dh, dw = base.size[0] - image[1], base.size[1] - image[2]
        if 0 <= dh <= _PADDABLE and 0 <= dw <= _PADDABLE and dh + dw > 0:
            yield replace(base, pad=True)


def _known_size(shape: Shape | None, layout: str) -> bool:
    if shape is None:
        return False
    axes = {"NCHW": (2, 3), "NHWC": (1, 2), "NHW": (1, 2)}.get(layout, (1,))
    return all(a < len(shape) and isinstance(shape[a], int) for a in axes)


def _by_shape(shape: Shape | None, image: tuple[int, int, int]) -> Iterator[Preprocessing]:
    if shape is None:
        yield from _unknown(image)
    elif len(shape) == 4:
        yield from _rank4(shape, image)
    elif len(shape) == 3:
        yield from _rank3(shape, image)
    elif len(shape) == 2:
        yield from _flat(shape[1], image, ("flat", "flat-HWC"))


def _rank4(shape: Shape, image: tuple[int, int, int]) -> Iterator[Preprocessing]:
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    unknown = not first and not last
    if first or (unknown and not isinstance(shape[1], int)):
        for channels in _channel_counts(shape[1], image):
            yield from _sized("NCHW", shape[2], shape[3], channels, image)
    if last or (unknown and not isinstance(shape[3], int)):
        for channels in _channel_counts(shape[3], image):
            yield from _sized("NHWC", shape[1], shape[2], channels, image)


def _rank3(shape: Shape, image: tuple[int, int, int]) -> Iterator[Preprocessing]:
    if shape[2] == 1:
        yield from _flat(shape[1], image, ("flat-1",))
    yield from _sized("NHW", shape[1], shape[2], 1, image)


def _flat(
    width: int | str | None, image: tuple[int, int, int], layouts: tuple[str, ...]
) -> Iterator[Preprocessing]:
    own = image[1:]
    if not isinstance(width, int):
        sizes = [(image[0], own)]
    else:
        sizes = [(c, own) for c in _channel_counts(None, image) if c * own[0] * own[1] == width]
        for channels in (1, 3):
            side = round((width / channels) ** 0.5)
            if side * side * channels == width and (channels, (side, side)) not in sizes:
                sizes.append((channels, (side, side)))
    for channels, size in sizes:
        for layout in layouts:
            if layout == "flat-HWC" and channels == 1:
                continue
            yield from _sized(layout, *size, channels, image)


def _sized(
    layout: str,
    height: int | str | None,
    width: int | str | None,
    channels: int,
    image: tuple[int, int, int],
) -> Iterator[Preprocessing]:
    if isinstance(height, int) and isinstance(width, int):
        sizes: list[tuple[int, int]] = [(height, width)]
    else:
        sizes = [(image[1], image[2])]
        sizes += [(s, s) for s in COMMON_SIDES if (s, s) != sizes[0]]
    for size in sizes:
        if channels == 1:
            yield Preprocessing(layout, size, "grey")
        else:
            yield Preprocessing(layout, size, "rgb")


def _unknown(image: tuple[int, int, int]) -> Iterator[Preprocessing]:
    for channels in _channel_counts(None, image):
        yield from _sized("NCHW", None, None, channels, image)
        yield Preprocessing("flat", (image[1], image[2]), "grey" if channels == 1 else "rgb")
        yield Preprocessing("NHWC", (image[1], image[2]), "grey" if channels == 1 else "rgb")
    yield Preprocessing("NHW", (image[1], image[2]), "grey")


def _channel_counts(size: int | str | None, image: tuple[int, int, int]) -> tuple[int, ...]:
    if isinstance(size, int):
        return (size,) if size in (1, 3) else ()
    return (image[0], 4 - image[0]) if image[0] in (1, 3) else (1, 3)


def with_values(
    geometry: Preprocessing, overrides: Overrides, stored_range: tuple[float, float] | None
) -> Iterator[Preprocessing]:
    """`geometry` with each common pixel scaling (and channel order for colour inputs)."""
    orders = ("grey",) if geometry.channels == "grey" else ("rgb", "bgr")
    if overrides.fixes_values:
        for order in orders:
            yield replace(overrides.values(geometry), channels=order)
        return
    if stored_range is not None:
        low, high = stored_range
        stored = Values("as stored (already normalised)", high - low, (-low,))
        yield _fill(geometry, stored, geometry.channels)
    for values in COMMON_VALUES:
        if len(values.mean) == 3 and geometry.channels == "grey":
            continue
        for order in orders:
            if values.order == "bgr" and order != "bgr":
                continue
            yield _fill(geometry, values, order)


def _fill(geometry: Preprocessing, values: Values, order: str) -> Preprocessing:
    mean, std = values.mean, values.std
    if order == "bgr" and values.order == "rgb" and len(mean) == 3:
        mean, std = mean[::-1], std[::-1]
    return replace(
        geometry,
        channels=order,
        scale=values.scale,
        mean=mean,
        std=std,
        label=values.label + (", BGR" if order == "bgr" else ""),
    )
