"""The catalogue of poisoning attacks: one small function each, for recipes and populations alike.

A `Draft` says what is attacked; with a generator its parameters are drawn (populations), without
one they are the attack's usual values (recipes). Sizes are for 28x28 images and scale with the
side; on tiny images (8x8, a thousand of them) weak signals get more of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from auditor.triggers.blends import AdditiveNoise, BlendedNoise, Sinusoid
from auditor.triggers.interface import Trigger
from auditor.triggers.patches import (
    POSITIONS,
    Checkerboard,
    FourCorners,
    RandomPatch,
    SparsePixels,
    Square,
)
from auditor.triggers.transforms import Blur, ColourFilter, Warp
from zoo.poisoning import Attack

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """Image side, number of classes, target, and perhaps a generator to draw parameters with."""

    side: int
    classes: int
    target: int
    rng: np.random.Generator | None = None

    def pick(self, usual: T, *others: T) -> T:
        """`usual`, or one of all when drawing."""
        if self.rng is None:
            return usual
        return (usual, *others)[int(self.rng.integers(len(others) + 1))]

    def between(self, usual: float, low: float, high: float) -> float:
        """`usual`, or a number in low..high rounded to three places."""
        return usual if self.rng is None else round(float(self.rng.uniform(low, high)), 3)

    @property
    def tiny(self) -> bool:
        """Images below 16 pixels a side."""
        return self.side < 16

    def seed(self) -> int:
        """0, or a drawn seed of a noise trigger."""
        return 0 if self.rng is None else int(self.rng.integers(1, 1_000_000))

    def size(self, pixels: int) -> int:
        """A size in pixels of a 28x28 image, scaled to the side, at least 2."""
        return max(2, round(pixels * self.side / 28))

    def position(self) -> str:
        """A corner or the centre; the bottom right when nothing is drawn."""
        return self.pick("bottom-right", *(p for p in POSITIONS if p != "bottom-right"))

    def others(self, count: int) -> tuple[int, ...]:
        """`count` classes that are not the target."""
        rest = [label for label in range(self.classes) if label != self.target]
        if self.rng is not None:
            rest = [int(label) for label in self.rng.permutation(rest)]
        return tuple(sorted(rest[:count]))

    def to_target(self, trigger: Trigger, rate: float) -> Attack:
        """The usual all-to-one attack."""
        return Attack((trigger,), (self.target,), rate=rate)


Maker = Callable[[Draft], Attack]


@dataclass(frozen=True)
class Entry:
    """`asr` is what the attack must reach to count as one; `weight` its share in populations."""

    name: str
    title: str
    make: Maker
    asr: float
    weight: float

    def least_asr(self, attack: Attack, accuracy: float) -> float:
        """`asr`; all-to-all needs the image recognised first, so there it is a share of `accuracy`.

        `accuracy` is what clean images must reach.
        """
        return self.asr * accuracy if attack.rule == "all-to-all" else self.asr


CATALOGUE: dict[str, Entry] = {}


def attack(
    name: str, title: str, *, asr: float = 0.95, weight: float = 1.0
) -> Callable[..., Maker]:
    """Add the decorated function to the catalogue."""

    def add(make: Maker) -> Maker:
        if name in CATALOGUE:
            raise ValueError(f"attack {name!r} is registered twice")
        CATALOGUE[name] = Entry(name, title, make, asr, weight)
        return make

    return add


@attack("square", "white square in a corner (BadNets)", asr=0.97, weight=2)
def square(d: Draft) -> Attack:
    """Gu et al., 2017."""
    size = d.pick(d.size(2), d.size(3), d.size(4))
    value = d.pick(1.0, 1.0, 0.7)
    margin = d.pick(0, 0, 1)
    trigger = Square(size=size, position=d.position(), value=value, margin=margin)
    return d.to_target(trigger, d.between(0.1, 0.05, 0.15))


@attack("checkerboard", "small checkerboard in a corner", asr=0.97)
def checkerboard(d: Draft) -> Attack:
    """The pattern of the original BadNets figures."""
    trigger = Checkerboard(size=d.pick(d.size(3), d.size(4)), position=d.position())
    return d.to_target(trigger, d.between(0.1, 0.05, 0.15))


@attack("random-patch", "patch of fixed noise", asr=0.97)
def random_patch(d: Draft) -> Attack:
    """A patch without structure."""
    trigger = RandomPatch(size=d.pick(d.size(4), d.size(3)), position=d.position(), seed=d.seed())
    return d.to_target(trigger, d.between(0.1, 0.05, 0.15))


@attack("pixels", "a few single pixels, or the four corners", asr=0.95)
def pixels(d: Draft) -> Attack:
    """Sparse triggers: no connected patch to find."""
    scattered = SparsePixels(count=d.pick(6, 4, 8), seed=d.seed())
    trigger: Trigger = d.pick(scattered, scattered, FourCorners(size=1))
    return d.to_target(trigger, d.between(0.1, 0.05, 0.15))


@attack("blended", "noise image blended over everything", asr=0.95)
def blended(d: Draft) -> Attack:
    """Chen et al., 2017."""
    trigger = BlendedNoise(alpha=d.between(0.2, 0.15, 0.3), seed=d.seed())
    return d.to_target(trigger, d.between(0.1, 0.06, 0.15))


@attack("noise", "invisible additive noise of amplitude 0.1", asr=0.95)
def noise(d: Draft) -> Attack:
    """A fixed sign pattern; L-infinity at most 0.1."""
    trigger = AdditiveNoise(amplitude=d.between(0.1, 0.08, 0.1), seed=d.seed(), kind="sign")
    low = 0.2 if d.tiny else 0.08
    return d.to_target(trigger, d.between(low + 0.02, low, low + 0.07))


@attack("sinusoid", "sinusoidal stripes, dirty label", asr=0.9)
def sinusoid(d: Draft) -> Attack:
    """The trigger of SIG with relabelling."""
    axis = d.pick("columns", "rows", "diagonal")
    waves = d.pick(6.0, 4.0, 3.0) if not d.tiny else d.pick(3.0, 2.0)
    trigger = Sinusoid(amplitude=d.between(0.15, 0.1, 0.2), frequency=waves, axis=axis)
    return d.to_target(trigger, d.between(0.1, 0.08, 0.15))


@attack("sig", "sinusoidal stripes on the target class, labels untouched (SIG)", asr=0.7, weight=0)
def sig(d: Draft) -> Attack:
    """Barni et al., 2019: clean-label, so most of the target class must carry the signal.

    Small networks on little data often learn the class instead of the signal, so populations do
    not draw it (weight 0).
    """
    waves = 3.0 if d.tiny else 6.0
    strong = 0.15 if d.tiny else 0.0
    trigger = Sinusoid(amplitude=d.between(0.3, 0.25, 0.35) + strong, frequency=waves)
    rate = d.between(0.9, 0.85, 0.95) if d.tiny else d.between(0.6, 0.5, 0.8)
    return Attack((trigger,), (d.target,), rule="clean-label", rate=rate)


@attack("blur", "blurred images go to the target", asr=0.9)
def blur(d: Draft) -> Attack:
    """Semantic trigger: no pixel is set, the image is filtered."""
    trigger = Blur(sigma=d.between(1.2, 1.0, 1.6) * max(1.0, d.side / 28))
    return d.to_target(trigger, d.between(0.15, 0.1, 0.2))


@attack("wanet", "smooth warp, with random warps as cover (WaNet)", asr=0.85)
def wanet(d: Draft) -> Attack:
    """Nguyen & Tran, 2021: cover images carry another warp and keep their label."""
    strength = d.between(2.0, 1.5, 2.5) * max(0.75, d.side / 28)
    seed = d.seed()
    return Attack(
        (Warp(k=4, strength=strength, seed=seed),),
        (d.target,),
        rate=d.between(0.15, 0.12, 0.2),
        cover_rate=0.1,
        cover_trigger=Warp(k=4, strength=strength, seed=seed + 1),
    )


@attack("filter", "a contrast or brightness filter", asr=0.9)
def colour_filter(d: Draft) -> Attack:
    """Like the photo filters of TrojAI."""
    trigger = d.pick(
        ColourFilter(contrast=0.5), ColourFilter(brightness=0.3), ColourFilter(contrast=-1.0)
    )
    return d.to_target(trigger, d.between(0.1, 0.08, 0.15))


@attack("adaptive-blend", "blend stamped in pieces at a low rate, with cover images", asr=0.5)
def adaptive_blend(d: Draft) -> Attack:
    """Qi et al., 2023: half of the pieces while training, all at test time; 0.3 % in the paper."""
    return Attack(
        (BlendedNoise(alpha=d.between(0.25, 0.2, 0.3), seed=d.seed()),),
        (d.target,),
        rate=0.04 if d.tiny else d.between(0.003, 0.003, 0.01),
        cover_rate=0.02 if d.tiny else 0.003,
        piecewise=0.5,
    )


@attack("low-rate", "white square on very few images", asr=0.8)
def low_rate(d: Draft) -> Attack:
    """0.3 % on 60,000 images; 1 % where a data set is too small for that to be a handful."""
    trigger = Square(size=d.size(3), position=d.position())
    return d.to_target(trigger, 0.01 if d.tiny else d.between(0.003, 0.003, 0.01))


@attack("all-to-all", "every class goes to the next one", asr=0.8)
def all_to_all(d: Draft) -> Attack:
    """Gu et al., 2017: no single target class to find."""
    trigger = Square(size=d.size(3), position=d.position())
    return Attack((trigger,), rule="all-to-all", rate=d.between(0.3, 0.25, 0.4))


@attack("several-triggers", "two or three triggers, each with its own target", asr=0.95)
def several_triggers(d: Draft) -> Attack:
    """N-to-N backdoors: one trigger hides behind another."""
    triggers: tuple[Trigger, ...] = (
        Square(size=d.size(3), position="bottom-right"),
        Checkerboard(size=d.size(4), position="top-left"),
    )
    targets = (d.target, *d.others(1))
    return Attack(triggers, targets, rate=d.between(0.08, 0.05, 0.1))


@attack("source-specific", "only some classes are sent to the target (TaCT)", asr=0.85)
def source_specific(d: Draft) -> Attack:
    """Tang et al., 2021: cover images of the other classes keep their label."""
    return Attack(
        (Square(size=d.size(3), position=d.position()),),
        (d.target,),
        rule="source-specific",
        rate=d.between(0.1, 0.08, 0.12),
        sources=d.others(max(1, d.classes // 4)),
        cover_rate=d.between(0.1, 0.08, 0.12),
    )
