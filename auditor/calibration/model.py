"""A calibrated probability: coefficients with their provenance, and what lies outside them.

Pure numpy. The coefficients are a JSON file in the package, one model for audits with samples and
one for audits without; `auditor.calibration.fit` writes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from auditor.calibration.features import derived
from auditor.errors import UsageError

FORMAT = 1
PACKAGED = Path(__file__).with_name("coefficients.json")
_MARGIN = 0.05
"""A feature may leave the population's range by this share of it."""

_MOST_MISSING = 0.5
MANY = 300
"""Models from which on a population is not called small."""

REASONABLE = 1e-3
"""No population of this size supports a probability nearer to 0 or 1."""


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value in the calibration population, both included."""

    low: float
    high: float

    def holds(self, value: float, margin: float = _MARGIN) -> bool:
        """Whether `value` lies inside, give or take a share of the width."""
        slack = margin * max(self.high - self.low, 1e-9)
        return self.low - slack <= value <= self.high + slack


@dataclass(frozen=True, slots=True)
class Floor:
    """How often a finding of one severity was right at even odds, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the coefficients come from. `held_out` are figures on models not fitted on."""

    population: str
    models: int
    clean: int
    backdoored: int
    seed: int
    tool: str
    date: str
    penalty: float
    attacks: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    held_out: Mapping[str, float] = field(default_factory=dict)

    @property
    def small(self) -> bool:
        """Too few models to be trusted beyond their kind: said beside every probability."""
        return self.models < MANY


@dataclass(frozen=True, slots=True)
class Estimate:
    """`probability` with its 95 % bootstrap interval; `outside` are reasons in words.

    `raised` when the regression said less than findings of this severity deserve.
    """

    probability: float
    low: float
    high: float
    outside: tuple[str, ...] = ()
    raised: bool = False


@dataclass(frozen=True, slots=True)
class Calibration:
    """``sigmoid(intercept + coefficients . (x - means) / scales)``.

    `draws` (B, 1 + F) are intercept and coefficients refitted to bootstrap samples of the
    population. `ranges` hold for the features, `about` for classes, image side and parameters.
    `floors` by severity: beside a finding of a search the probability is never below the share of
    such findings that were right.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    draws: tuple[tuple[float, ...], ...]
    ranges: tuple[Range, ...]
    about: Mapping[str, Range]
    provenance: Provenance
    floors: Mapping[str, Floor] = field(default_factory=dict)

    def estimate(
        self, features: Mapping[str, float], parameters: int | None = None, severity: str = ""
    ) -> Estimate:
        """The probability of a backdoor given the checks' raw `features`.

        `severity` is that of the gravest finding of a search for triggers, if there is one.

        A missing feature counts as the population's mean and is told; so is a value outside the
        population's range, which is cut there: a linear model must not extrapolate.
        """
        known = derived(features)
        outside = list(self._about(known, parameters))
        rows, missing, beyond = [], [], []
        for name, mean, scale, span in zip(
            self.names, self.means, self.scales, self.ranges, strict=True
        ):
            value = known.get(name)
            if value is None:
                missing.append(name)
                value = mean
            elif not span.holds(value):
                beyond.append(name)
            rows.append((min(span.high, max(span.low, value)) - mean) / scale)
        if missing:
            outside.append(f"no value for {', '.join(missing)} (the population's mean was used)")
        if beyond:
            outside.append(f"{', '.join(beyond)} beyond any model it was calibrated on")
        x = np.array(rows)
        logits = np.array(self.draws)[:, 0] + np.array(self.draws)[:, 1:] @ x
        low, high = np.quantile(_sigmoid(logits), [0.025, 0.975])
        middle = _bounded(_sigmoid(self.intercept + float(np.dot(self.coefficients, x))))
        low, high = min(middle, _bounded(low)), max(middle, _bounded(high))
        floor = self.floors.get(severity)
        if floor is None or middle >= floor.value:
            return Estimate(middle, low, high, tuple(outside))
        return Estimate(
            floor.value, max(low, floor.low), max(high, floor.high), tuple(outside), raised=True
        )

    def covers(self, features: Mapping[str, float]) -> bool:
        """Whether enough features are known for a probability at all."""
        known = derived(features)
        return sum(name not in known for name in self.names) <= _MOST_MISSING * len(self.names)

    def _about(self, known: Mapping[str, float], parameters: int | None) -> list[str]:
        values = {k: known.get(k) for k in self.about}
        if parameters is not None:
            values["about.parameters"] = float(parameters)
        reasons = []
        for name, span in self.about.items():
            value = values.get(name)
            if value is not None and not span.holds(value, margin=0.0):
                word = _WORDS.get(name, name)
                seen = (
                    f"{span.low:,.0f}"
                    if span.low == span.high
                    else (f"{span.low:,.0f} to {span.high:,.0f}")
                )
                reasons.append(f"{value:,.0f} {word}, the population {seen}")
        return reasons


_WORDS = {
    "about.classes": "classes",
    "about.side": "pixels a side",
    "about.parameters": "parameters",
}


def _sigmoid(value: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-np.clip(value, -30.0, 30.0)))


def _bounded(value: Any) -> float:
    return float(min(1.0 - REASONABLE, max(REASONABLE, value)))


def to_json(models: Mapping[str, Calibration]) -> dict[str, Any]:
    """``{"format": 1, "models": {...}}``; keys are ``samples`` and ``data-free``."""
    return {"format": FORMAT, "models": {name: asdict(model) for name, model in models.items()}}


def load(path: Path) -> dict[str, Calibration]:
    """Read a coefficients file. Raises `UsageError` naming what is wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the calibration {path.name}: {error}") from None
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, this version reads {FORMAT}")
        return {str(name): _model(values) for name, values in content["models"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path.name} is not a calibration of audit bench: {error}") from None


def _model(values: Mapping[str, Any]) -> Calibration:
    provenance = dict(values["provenance"])
    for name in ("attacks", "architectures", "datasets"):
        provenance[name] = tuple(provenance[name])
    names = tuple(str(n) for n in values["names"])
    columns = {key: _floats(values[key], len(names)) for key in ("means", "scales", "coefficients")}
    draws = tuple(_floats(row, len(names) + 1) for row in values["draws"])
    ranges = tuple(Range(**span) for span in values["ranges"])
    if not draws or len(ranges) != len(names) or min(columns["scales"], default=1.0) <= 0:
        raise ValueError("draws, ranges and scales do not fit the feature names")
    return Calibration(
        names=names,
        intercept=_floats([values["intercept"]], 1)[0],
        draws=draws,
        ranges=ranges,
        about={str(k): Range(**span) for k, span in values["about"].items()},
        provenance=Provenance(**provenance),
        floors={str(k): Floor(**floor) for k, floor in values.get("floors", {}).items()},
        **columns,
    )


def _floats(values: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values)
    if len(numbers) != count or not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{count} finite numbers were expected")
    return numbers


@cache
def packaged() -> dict[str, Calibration]:
    """The coefficients this version ships; empty when it ships none."""
    return load(PACKAGED) if PACKAGED.is_file() else {}
