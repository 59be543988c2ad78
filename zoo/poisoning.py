"""Poisoning a training set: which images get which trigger, and which label they then carry.

Label rules (one `Attack` field, so that tests can state them):

- ``all-to-one``: images of any class but the target, relabelled to it (BadNets, Gu et al., 2017).
- ``clean-label``: images *of* the target class, labels untouched (Turner et al., 2019; SIG, Barni
  et al., 2019). `rate` is then the share of the target class, not of the whole set.
- ``all-to-all``: images of any class k, relabelled to k + 1 modulo the classes (BadNets).
- ``source-specific``: only images of `sources` are relabelled; cover images of the other classes
  carry the trigger with their true label (TaCT, Tang et al., 2021).

`cover_rate` adds triggered images that keep their label in every rule (Qi et al., 2023, adaptive
attacks; the noise mode of WaNet, Nguyen & Tran, 2021, with another warp as `cover_trigger`).
`piecewise` < 1 stamps only that share of a 4x4 grid of the trigger while training, all of it at
test time (adaptive-blend, Qi et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auditor.samples.interface import Images
from auditor.triggers.interface import Pixels, Trigger

Rule = Literal["all-to-one", "all-to-all", "source-specific", "clean-label"]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Attack:
    """What is stamped, on how many images, with which labels. `rate` is per trigger."""

    triggers: tuple[Trigger, ...]
    targets: tuple[int, ...] = ()
    rule: Rule = "all-to-one"
    rate: float = 0.1
    sources: tuple[int, ...] = ()
    cover_rate: float = 0.0
    cover_trigger: Trigger | None = None
    piecewise: float = 1.0

    def __post_init__(self) -> None:
        if not self.triggers:
            raise ValueError("an attack needs at least one trigger")
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"the poisoning rate must be in (0, 1], not {self.rate}")
        if self.rule == "all-to-all":
            if self.targets:
                raise ValueError("all-to-all derives its targets from the labels: give none")
        elif len(self.targets) != len(self.triggers):
            raise ValueError("give one target class for each trigger")
        if (self.rule == "source-specific") != bool(self.sources):
            raise ValueError("source classes belong to the source-specific rule, and it needs them")


@dataclass(frozen=True)
class Poisoned:
    """The training set as the model sees it; `poisoned` and `cover` index it, sorted."""

    images: Images
    poisoned: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    cover: Indices = field(default_factory=lambda: np.empty(0, np.int64))


def poisoned_label(attack: Attack, which: int, labels: Indices, classes: int) -> Indices:
    """The label the attacker wants for images of `labels` carrying trigger number `which`."""
    if attack.rule == "all-to-all":
        return (labels + 1) % classes
    return np.full_like(labels, attack.targets[which])


def eligible(attack: Attack, which: int, labels: Indices) -> NDArray[np.bool_]:
    """Which images the attacker may poison with trigger number `which`."""
    if attack.rule == "all-to-all":
        return np.ones(len(labels), dtype=bool)
    target = attack.targets[which]
    if attack.rule == "clean-label":
        return labels == target
    if attack.rule == "source-specific":
        return np.isin(labels, attack.sources) & (labels != target)
    return labels != target


def victims(attack: Attack, which: int, labels: Indices) -> NDArray[np.bool_]:
    """Which test images measure the attack: never those already of the target class."""
    if attack.rule == "clean-label":
        return labels != attack.targets[which]
    return eligible(attack, which, labels)


def poison(images: Images, attack: Attack, *, seed: int) -> Poisoned:
    """Stamp and relabel copies in place: the set keeps its size and order.

    Images are quantised to 8 bits afterwards, because that is how a data set is stored: an attack
    that would not survive the file format does not count. Raises `ValueError` when the rate asks
    for more images than are eligible, or for none.
    """
    rng = np.random.default_rng([seed, 7])
    pixels, labels = images.pixels.copy(), images.labels.copy()
    classes = _classes(images)
    free = np.ones(len(images), dtype=bool)
    chosen_all: list[Indices] = []
    for which, trigger in enumerate(attack.triggers):
        pool = np.flatnonzero(eligible(attack, which, images.labels) & free)
        base = int((images.labels == attack.targets[which]).sum()) if _clean(attack) else len(free)
        chosen = _draw(rng, pool, round(attack.rate * base), attack.rule)
        free[chosen] = False
        pixels[chosen] = stamp(trigger, pixels[chosen], attack.piecewise, rng)
        labels[chosen] = poisoned_label(attack, which, images.labels[chosen], classes)
        chosen_all.append(chosen)
    cover = _cover(attack, images, free, pixels, rng)
    result = replace(images, pixels=quantise(pixels), labels=labels)
    return Poisoned(result, np.sort(np.concatenate(chosen_all)), cover)


def stamp(trigger: Trigger, pixels: Pixels, piecewise: float, rng: np.random.Generator) -> Pixels:
    """Apply `trigger`; with `piecewise` < 1 keep it only in that share of a 4x4 grid, per image."""
    stamped = trigger.apply(pixels)
    if piecewise >= 1.0 or not len(pixels):
        return stamped
    count, _, height, width = pixels.shape
    cells = rng.random((count, 1, 4, 4)) < piecewise
    rows = np.minimum(np.arange(height) * 4 // height, 3)
    columns = np.minimum(np.arange(width) * 4 // width, 3)
    mask = cells[:, :, rows][:, :, :, columns]
    return np.where(mask, stamped, pixels).astype(np.float32)


def quantise(pixels: Pixels) -> Pixels:
    """Round 0..1 pixels to the 256 levels of an image file."""
    return (np.rint(np.clip(pixels, 0.0, 1.0) * 255.0) / 255.0).astype(np.float32)


def flip_labels(
    images: Images, rate: float, *, seed: int, pair: tuple[int, int] | None = None
) -> Poisoned:
    """Label flipping: `rate` of all labels to another random class, or `pair[0]` to `pair[1]`.

    Pairwise, `rate` is the share of class `pair[0]`. Pixels stay as they are (Biggio et al., 2012).
    """
    rng = np.random.default_rng([seed, 11])
    labels = images.labels.copy()
    if pair is None:
        chosen = rng.choice(len(images), round(rate * len(images)), replace=False)
        classes = _classes(images)
        labels[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    else:
        pool = np.flatnonzero(labels == pair[0])
        chosen = rng.choice(pool, round(rate * len(pool)), replace=False)
        labels[chosen] = pair[1]
    return Poisoned(replace(images, labels=labels), np.sort(chosen.astype(np.int64)))


def perturb_pixels(images: Images, rate: float, *, amplitude: float = 0.5, seed: int) -> Poisoned:
    """Add uniform noise of at most `amplitude` to `rate` of the images; labels stay."""
    rng = np.random.default_rng([seed, 13])
    chosen = np.sort(rng.choice(len(images), round(rate * len(images)), replace=False))
    pixels = images.pixels.copy()
    noise = rng.uniform(-amplitude, amplitude, pixels[chosen].shape)
    pixels[chosen] = np.clip(pixels[chosen] + noise, 0.0, 1.0)
    return Poisoned(replace(images, pixels=quantise(pixels)), chosen.astype(np.int64))


def inject_samples(
    images: Images, rate: float, *, foreign: Images | None = None, seed: int
) -> Poisoned:
    """Append ``rate * len(images)`` bad samples at the end.

    With `foreign` images of the same shape: out-of-distribution images under random labels.
    Without: copies of the set's own images, each mislabelled.
    """
    rng = np.random.default_rng([seed, 17])
    count, classes = round(rate * len(images)), _classes(images)
    if foreign is None:
        source = rng.integers(0, len(images), count)
        pixels = images.pixels[source]
        labels = (images.labels[source] + rng.integers(1, classes, count)) % classes
    else:
        if foreign.pixels.shape[1:] != images.pixels.shape[1:]:
            raise ValueError("out-of-distribution images must have the shape of the data set's")
        pixels = foreign.pixels[rng.integers(0, len(foreign), count)]
        labels = rng.integers(0, classes, count)
    grown = replace(
        images,
        pixels=np.concatenate([images.pixels, pixels]),
        labels=np.concatenate([images.labels, labels]),
    )
    return Poisoned(grown, np.arange(len(images), len(grown), dtype=np.int64))


def _clean(attack: Attack) -> bool:
    return attack.rule == "clean-label"


def _classes(images: Images) -> int:
    return len(images.classes) or int(images.labels.max()) + 1


def _draw(rng: np.random.Generator, pool: Indices, wanted: int, rule: str) -> Indices:
    if not 0 < wanted <= len(pool):
        raise ValueError(
            f"the poisoning rate asks for {wanted} images; {len(pool)} are eligible under {rule}"
        )
    return rng.choice(pool, wanted, replace=False).astype(np.int64)


def _cover(
    attack: Attack,
    images: Images,
    free: NDArray[np.bool_],
    pixels: Pixels,
    rng: np.random.Generator,
) -> Indices:
    """Stamp the cover images into `pixels`; labels stay. Returns their indices."""
    wanted = round(attack.cover_rate * len(images))
    if not wanted:
        return np.empty(0, np.int64)
    outside = ~np.isin(images.labels, attack.sources) & ~np.isin(images.labels, attack.targets)
    pool = np.flatnonzero(free & outside) if attack.sources else np.flatnonzero(free)
    cover = np.sort(_draw(rng, pool, min(wanted, len(pool)), "cover"))
    trigger = attack.cover_trigger or attack.triggers[0]
    pixels[cover] = stamp(trigger, pixels[cover], attack.piecewise, rng)
    return cover
