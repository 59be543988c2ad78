"""Trigger families by name: ours, and anybody's under the entry point group ``audit.triggers``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from auditor import plugins
from auditor.triggers.blends import AdditiveNoise, AdditivePattern, BlendedNoise, Sinusoid
from auditor.triggers.interface import Trigger
from auditor.triggers.patches import (
    Checkerboard,
    FourCorners,
    PixelPatch,
    RandomPatch,
    SparsePixels,
    Square,
)
from auditor.triggers.record import BadTrigger
from auditor.triggers.transforms import Blur, ColourFilter, Warp

if TYPE_CHECKING:
    from auditor.findings import Json

GROUP = "audit.triggers"

BUILT_IN: tuple[type[Trigger], ...] = (
    Square,
    Checkerboard,
    PixelPatch,
    RandomPatch,
    FourCorners,
    SparsePixels,
    BlendedNoise,
    AdditiveNoise,
    Sinusoid,
    AdditivePattern,
    Blur,
    Warp,
    ColourFilter,
)


@cache
def load_families() -> tuple[Mapping[str, type[Trigger]], tuple[str, ...]]:
    """All families by name, and a sentence for each plug-in that could not be used.

    A plug-in is a `Trigger` subclass with `family` set and a `from_json` class method. One that
    fails to import, is no such class, or takes a name already taken is left out.
    """
    families: dict[str, type[Trigger]] = {kind.family: kind for kind in BUILT_IN}
    loaded = plugins.load(GROUP)
    problems = list(loaded.notices)
    for plugin in loaded.plugins:
        kind: Any = plugin.value
        if kind in families.values():
            continue
        if not (isinstance(kind, type) and issubclass(kind, Trigger)):
            problems.append(f"trigger plug-in {kind!r} of {plugin.origin} is not a Trigger class")
        elif not hasattr(kind, "from_json") or not isinstance(getattr(kind, "family", None), str):
            problems.append(f"trigger plug-in {kind!r} of {plugin.origin} lacks family, from_json")
        elif kind.family in families:
            problems.append(f"trigger plug-in of {plugin.origin}: {kind.family!r} exists already")
        else:
            families[kind.family] = kind
    return families, tuple(problems)


def trigger_from_json(record: Mapping[str, Json]) -> Trigger:
    """The trigger that `Trigger.to_json` wrote. Raises `BadTrigger` (a ``ValueError``)."""
    if not isinstance(record, Mapping):
        raise BadTrigger("a trigger is a JSON object")
    family = record.get("family")
    families, _ = load_families()
    if not isinstance(family, str) or family not in families:
        raise BadTrigger(f"unknown trigger family {family!r}; known: {', '.join(sorted(families))}")
    built: Any = families[family]
    trigger: Trigger = built.from_json(record)
    return trigger
