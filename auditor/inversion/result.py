"""What a campaign of searches came to: per family, as features for calibration, as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.inversion.attraction import ATTRACTED
from auditor.inversion.families import Additive, Family, Patch
from auditor.inversion.features import CAP, Gap, anomaly
from auditor.inversion.search import Inversion
from auditor.inversion.validate import Validation

MIN_PROGRESS = 0.6
"""Share of its steps a search must make to be judged: before, sizes only say who is quicker."""


@dataclass(slots=True)
class Result:
    """What one family came to. `gap` and `validation` are None when no class was reached.

    `attraction` is the share of answers changed by random disturbances that go to the gap's class;
    `progress` the share of the steps that the budget allowed, 0 where it ended the reference;
    `character` what the smallest trigger is like, and how far a second search agrees (``repeat``, a
    cosine, and ``log_repeat``, the log of its size over the first's).
    """

    family: Family
    search: Inversion
    reference: NDArray[np.float64] | None
    gap: Gap | None
    validation: Validation | None = None
    attraction: float = 0.0
    progress: float = 1.0
    character: dict[str, float] = field(default_factory=dict)

    def easiness(self, classes: int) -> NDArray[np.float64]:
        """(`classes`,) ``-log size``, NaN where no trigger was found."""
        out = np.full(classes, np.nan)
        sizes = np.maximum(self.search.sizes, 1e-9)
        out[self.search.targets] = np.where(np.isfinite(sizes), -np.log(sizes), np.nan)
        return out


@dataclass(slots=True)
class Campaign:
    """All families' results; `left_out` says in sentences what was not searched.

    `margin_target` is the class whose margin stands out without any sample (MM-BD), if one does;
    `attraction` (K,) where plain disturbances lead; `searched` how many classes were searched where
    time did not reach for all.
    """

    results: list[Result] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    classes: int = 0
    passes: int = 0
    margin_target: int | None = None
    attraction: NDArray[np.float64] | None = None
    searched: int | None = None

    def strongest(self) -> Result | None:
        """The pixel families' result with the largest honest gap, else another family's."""
        named = [r for r in self.results if r.gap is not None]
        return max(named, key=_honest, default=None)

    def unfinished(self) -> str:
        """Why nothing can be said (a pixel family was not searched far enough), or nothing."""
        done = {r.family.name: r.progress for r in self.results}
        short = [k.name for k in (Patch, Additive) if done.get(k.name, 0.0) < MIN_PROGRESS]
        if short:
            return f"the time budget ended the search for {' and '.join(short)} triggers too early"
        if self.searched is not None:
            return f"the time budget sufficed to search {self.searched} of {self.classes:,} classes"
        return ""

    def features(self) -> dict[str, float]:
        """A flat map of finite floats for calibration: ``inversion.patch.log_gap`` and so on."""
        out: dict[str, float] = {"inversion.log_classes": math.log(max(2, self.classes))}
        for result in self.results:
            out.update(_features(result))
        named = {r.family.name: r.gap.target for r in self.results if r.gap is not None}
        if {"patch", "additive"} <= named.keys():
            out["inversion.agree"] = float(named["patch"] == named["additive"])
        best = self.strongest()
        if best is not None and best.gap is not None:
            names = [r.family.name for r in self.results if _writes(r)]
            if names:
                votes = [named.get(name) == best.gap.target for name in names]
                out["inversion.votes"] = sum(votes) / len(votes)
            out["inversion.target"] = float(best.gap.target)
        return out

    def standings(self) -> dict[str, NDArray[np.float64]]:
        """(K,) per family, larger where a class is easier: ``-log size``, NaN if not reached.

        ``NAME.relative`` is the same of sizes divided by the linear reference's. Of a family with a
        limit: ``log(limit / size)``, 0 if not reached, since most classes are not, and 0 for a
        class that plain noise leads to.
        """
        out = {} if self.attraction is None else {"attraction": self.attraction}
        for result in self.results:
            name, limit = result.family.name, result.family.limit
            raw = result.easiness(self.classes)
            if limit is not None:
                out[name] = np.maximum(0.0, np.nan_to_num(raw + math.log(limit), nan=0.0))
                if self.attraction is not None:
                    out[name][self.attraction >= ATTRACTED] = 0.0
                continue
            relative = np.full(self.classes, np.nan)
            if result.reference is not None:
                beside = np.log(np.maximum(result.reference, 1e-9))
                relative[result.search.targets] = np.where(np.isfinite(beside), beside, np.nan)
            relative += raw
            if self.searched is not None:
                unsearched = np.setdiff1d(np.arange(self.classes), result.search.targets)
                # Nothing is known of them: neither easy nor hard.
                raw[unsearched], relative[unsearched] = _middle(raw), _middle(relative)
            out[name], out[f"{name}.relative"] = raw, relative
        return out

    def table(self) -> list[dict[str, Any]]:
        """One row a class: size and, for dropped classes, how far the search went."""
        rows: dict[int, dict[str, Any]] = {}
        for result in self.results:
            name, search = result.family.name, result.search
            for row, target in enumerate(search.targets.tolist()):
                entry = rows.setdefault(target, {"class": target})
                size = float(search.sizes[row])
                if math.isfinite(size):
                    entry[f"{name} size"] = round(size, 3)
                    entry[f"{name} anomaly"] = round(anomaly(search.sizes, row), 2)
                entry[f"{name} steps"] = int(search.steps[row])
                found = result.validation
                if found is not None and found.target == target:
                    entry[f"{name} held-out ASR"] = round(found.asr, 4)
                    entry[f"{name} control ASR"] = round(found.control, 4)
        return [rows[key] for key in sorted(rows)]


def _middle(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _honest(result: Result) -> tuple[bool, float]:
    """Pixel families first: a blur may reach one class only, which makes its gap infinite."""
    return (_writes(result), result.gap.honest if result.gap is not None else 0.0)


def _writes(result: Result) -> bool:
    """Whether it writes on pixels, with no limit but the image: such families' gaps compare."""
    return result.family.limit is None


def _features(result: Result) -> dict[str, float]:
    prefix = f"inversion.{result.family.name}."
    if result.gap is None:
        # A search that was cut short has not shown that no class can be reached.
        return {prefix + "reached": 0.0} if result.search.complete else {}
    found = result.validation
    out = {
        prefix + "reached": 1.0,
        prefix + "log_gap": math.log(result.gap.raw),
        prefix + "log_relative_gap": math.log(max(result.gap.relative, 1.0 / CAP)),
        prefix + "anomaly": result.gap.anomaly,
        prefix + "attraction": result.attraction,
        prefix + "log_second_gap": math.log(result.gap.second),
        prefix + "log_spread": math.log(result.gap.spread),
        prefix + "log_share": math.log(max(result.gap.share, 1e-9)),
    }
    out.update({prefix + name: value for name, value in result.character.items()})
    if found is not None:
        out[prefix + "asr"] = found.asr
        out[prefix + "baseline"] = found.baseline
        out[prefix + "control"] = found.control
        out[prefix + "control_max"] = found.control_max
        out[prefix + "follows"] = found.follows
    return out
