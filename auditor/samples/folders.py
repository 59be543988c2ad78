"""Images in one folder per class, on disk or inside a .tar; ``train``/``test`` folders above them.

Class folders are labelled in natural order: by number when every name is a number, else
alphabetically.
"""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnreadableSamples
from auditor.samples.interface import Images

if TYPE_CHECKING:
    from auditor.samples.readers import Request

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
_MAX_PIXELS = 64_000_000

Load = Callable[[PurePosixPath], bytes]


def is_tar(path: Path) -> bool:
    """True for a readable tar archive, compressed or not."""
    try:
        return tarfile.is_tarfile(path)
    except OSError:
        return False


def read_folder(folder: Path, request: Request) -> Images:
    """Read a folder per class. Raises `UnreadableSamples`."""
    return _read(members_of(folder), lambda m: (folder / m).read_bytes(), folder.name, request)


def members_of(folder: Path) -> list[PurePosixPath]:
    """Relative paths of every image below `folder`, sorted."""
    return [
        PurePosixPath(p.relative_to(folder).as_posix())
        for p in sorted(folder.rglob("*"))
        if p.suffix.lower() in _SUFFIXES and p.is_file()
    ]


def members_in(archive: tarfile.TarFile) -> dict[PurePosixPath, tarfile.TarInfo]:
    """Every image of an open tar by its path."""
    return {
        PurePosixPath(m.name): m
        for m in archive.getmembers()
        if m.isfile() and PurePosixPath(m.name).suffix.lower() in _SUFFIXES
    }


def read_tar(path: Path, request: Request) -> Images:
    """Read a tar of a folder per class without unpacking it. Raises `UnreadableSamples`."""
    try:
        with tarfile.open(path) as archive:
            files = members_in(archive)

            def load(member: PurePosixPath) -> bytes:
                stream = archive.extractfile(files[member])
                return stream.read() if stream else b""

            return _read(sorted(files), load, path.name, request)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UnreadableSamples(
            f"{path.name} cannot be read as a tar of images: {error}"
        ) from error


def _read(members: list[PurePosixPath], load: Load, name: str, request: Request) -> Images:
    if not members:
        raise UnreadableSamples(f"{name} holds no images: expected one sub-folder per class")
    members, split = only_split(members, request.split)
    names = class_names(members, name)
    order = {label: index for index, label in enumerate(names)}
    labels = np.array([order[m.parent.name] for m in members], dtype=np.int64)
    # Draw the balanced subset before decoding anything: positions stand in for pixels.
    positions = np.arange(len(labels), dtype=np.float64).reshape(-1, 1, 1, 1)
    drawn = Images(positions.astype(np.float32), labels, name, names)
    index = drawn.shuffled(request.seed, request.limit)
    chosen = [members[int(i)] for i in index.pixels.reshape(-1)]
    pixels = _stack([decode(m, load) for m in chosen], name, request.size)
    return Images(pixels, index.labels, f"{name}{split}", names)


def only_split(members: list[PurePosixPath], split: str) -> tuple[list[PurePosixPath], str]:
    """Keep the wanted split where the layout has train/test folders above the classes."""
    wanted, other = _SPLITS[split], _SPLITS["train" if split == "test" else "test"]
    above = [{part.lower() for part in m.parts[:-2]} for m in members]
    if not any(a & {*wanted, *other} for a in above):
        return members, ""
    kept = [m for m, a in zip(members, above, strict=True) if a & set(wanted)]
    if not kept:
        raise UnreadableSamples(f"there is no {split} folder among the images; use --split")
    return kept, f" ({split})"


def class_names(members: list[PurePosixPath], name: str) -> tuple[str, ...]:
    """Names by label. Raises `UnreadableSamples` for a layout that is no folder per class."""
    loose = [m for m in members if m.parent.name == ""]
    if loose:
        raise UnreadableSamples(
            f"{name} holds images outside class folders (such as {loose[0].name}): "
            "expected one sub-folder per class"
        )
    depths = {len(m.parts) for m in members}
    if len(depths) > 1:
        raise UnreadableSamples(f"{name} mixes images at different folder depths")
    names = {m.parent.name for m in members}
    if all(n.isdecimal() for n in names):
        numbers = sorted(int(n) for n in names)
        if numbers[-1] < 10_000 and len(set(numbers)) == len(names):
            by_number = {int(n): n for n in names}
            return tuple(by_number.get(i, str(i)) for i in range(numbers[-1] + 1))
    return tuple(sorted(names))


def decode(member: PurePosixPath, load: Load) -> NDArray[np.uint8]:
    """(H, W) grey or (H, W, 3). Raises `UnreadableSamples` naming the image."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(load(member))) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UnreadableSamples(
                    f"image {member} is too large ({image.width}x{image.height})"
                )
            grey = image.mode in {"1", "L", "I", "I;16", "F", "LA"}
            return np.asarray(image.convert("L" if grey else "RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        # Pillow names the buffer by its address, which says nothing and differs from run to run.
        unknown = "BytesIO" in str(error)
        reason = "it is no image of a known format" if unknown else str(error)
        raise UnreadableSamples(f"image {member} cannot be decoded: {reason}") from error


def _stack(
    images: list[NDArray[np.uint8]], name: str, size: tuple[int, int] | None
) -> NDArray[np.float32]:
    return stack_uint8(images, name, size).astype(np.float32) / np.float32(255)


def stack_uint8(
    images: list[NDArray[np.uint8]], name: str, size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """(N, C, H, W); resized to `size` where they differ. Raises `UnreadableSamples` without one."""
    shapes = Counter(image.shape[:2] for image in images)
    colour = any(image.ndim == 3 for image in images)
    if len(shapes) > 1 and size is None:
        common = ", ".join(f"{w}x{h}" for (h, w), _ in shapes.most_common(3))
        raise UnreadableSamples(
            f"the images in {name} differ in size ({common}, ...) and the model's input size is "
            "not fixed: say --size HEIGHTxWIDTH"
        )
    target = size if len(shapes) > 1 else None
    out = [_to_chw(image, colour, target) for image in images]
    return np.stack(out)


def _to_chw(
    image: NDArray[np.uint8], colour: bool, size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    from PIL import Image

    if size is not None and image.shape[:2] != size:
        resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        image = np.asarray(resized, dtype=np.uint8)
    if image.ndim == 2:
        image = np.repeat(image[None], 3, axis=0) if colour else image[None]
    else:
        image = np.moveaxis(image, 2, 0)
    return image
