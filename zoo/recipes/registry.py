"""The registry of recipes, and the workshop they are run in."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from auditor.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from auditor.manifest import Manifest
    from zoo.build import Built, Specification
    from zoo.datasets import Dataset
    from zoo.training import Epoch

MODULES = ("basic", "attacks", "levels", "hardened", "fooling", "curves")
"""Modules of this package that register recipes; imported only when a recipe is asked for."""

STUDIES = ("mnist-dnn-pixel", "levels", "fgsm-study", "fooling", "poisoning-curves")
GROUPS: dict[str, tuple[str, ...]] = {
    "all": ("clean", "backdoored", "adversarial"),
    "studies": (*STUDIES, "pgd", "pgd-backdoored"),
}
RECIPES: dict[str, Recipe] = {}


class Reporter(Protocol):
    """Where progress goes; recipes know nothing of terminals."""

    def started(self, name: str, epochs: int) -> None:
        """A model begins training."""

    def epoch(self, name: str, epoch: Epoch) -> None:
        """An epoch is over."""

    def finished(self, manifest: Manifest) -> None:
        """A model is written."""

    def note(self, text: str) -> None:
        """Something a person should know."""


class Silent:
    """A reporter for tests and workers."""

    def started(self, name: str, epochs: int) -> None:
        """Nothing."""

    def epoch(self, name: str, epoch: Epoch) -> None:
        """Nothing."""

    def finished(self, manifest: Manifest) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


@dataclass
class Workshop:
    """What a recipe works with: data, folder, seed, the user's overrides, a reporter.

    `target` None means the recipe's own; `epochs` and `arch` override every model's.
    """

    dataset: Dataset
    out: Path
    seed: int = 0
    epochs: int | None = None
    arch: str | None = None
    target: int | None = None
    rate: float | None = None
    device: str = "auto"
    reporter: Reporter = field(default_factory=Silent)
    manifests: list[Manifest] = field(default_factory=list)
    root: Path | None = None

    def target_class(self, preferred: int = 6) -> int:
        """The user's target, else `preferred` where the data set has that class."""
        if self.target is not None:
            if not 0 <= self.target < self.dataset.count_classes:
                raise UsageError(
                    f"--target {self.target} does not exist: {self.dataset.name} has classes 0 to "
                    f"{self.dataset.count_classes - 1}"
                )
            return self.target
        return min(preferred, self.dataset.count_classes - 1)

    def make(
        self,
        spec: Specification,
        *,
        prepare: Callable[[nn.Module], None] | None = None,
        soft: Tensor | None = None,
    ) -> Built:
        """Build one model with the user's overrides and report it; see `zoo.build.build`."""
        from zoo.build import build, with_options

        spec = with_options(spec, epochs=self.epochs, arch=self.arch)
        if self.rate is not None and spec.attack is not None:
            spec = replace(spec, attack=replace(spec.attack, rate=self.rate))
        self.reporter.started(spec.name, spec.training.epochs)
        built = build(
            spec,
            self.dataset,
            self.out,
            on_epoch=lambda epoch: self.reporter.epoch(spec.name, epoch),
            device=self.device,
            prepare=prepare,
            soft=soft,
        )
        self.add(built.manifest)
        return built

    def add(self, manifest: Manifest) -> None:
        """Record and report a finished model."""
        self.manifests.append(manifest)
        self.reporter.finished(manifest)


@dataclass(frozen=True)
class Recipe:
    """`run` builds into the workshop's folder; `title` is one line for ``audit zoo list``."""

    name: str
    title: str
    run: Callable[[Workshop], None]


def register(new: Recipe) -> None:
    """Add a recipe; a second one of its name is a mistake."""
    if new.name in RECIPES:
        raise ValueError(f"recipe {new.name!r} is registered twice")
    RECIPES[new.name] = new


def recipe(name: str, title: str) -> Callable[[Callable[[Workshop], None]], Callable[..., None]]:
    """Register the decorated function under `name`."""

    def add(run: Callable[[Workshop], None]) -> Callable[..., None]:
        register(Recipe(name, title, run))
        return run

    return add


def load() -> dict[str, Recipe]:
    """All recipes, their modules imported."""
    for module in MODULES:
        importlib.import_module(f"zoo.recipes.{module}")
    return RECIPES


def resolve(names: list[str]) -> list[Recipe]:
    """Recipes of `names`, groups spelled out, duplicates removed. Raises `UsageError`."""
    known = load()
    wanted = [part for name in names for part in GROUPS.get(name, (name,))]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        choices = ", ".join([*GROUPS, *known])
        raise UsageError(f"there is no zoo recipe {unknown[0]!r}; choose from {choices}")
    return [known[name] for name in dict.fromkeys(wanted)]
