"""Everything a scan can be told, in one frozen record that CLI, API and fleet share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.errors import UsageError
from auditor.findings import Json
from auditor.samples.preprocessing import Overrides
from auditor.sandbox.limits import GIB

if TYPE_CHECKING:
    from auditor.policy.baseline import Baseline
    from auditor.policy.model import Policy
    from auditor.samples.interface import Images

PROFILES = ("file", "data-free", "full")


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """Defaults are those of ``audit scan``. `fail_on` and `budget` (seconds) beat the policy.

    `sanitize` None means: when behaviour or graph findings reach medium and samples exist.
    `command` is shown in the report as the way to repeat it. `classes` are the model's class names
    in its own order. `memory` is in bytes. `settings` are what checks read by name from their
    context's `options` (``robustness.epsilons``). `notices` are the caller's words for the report.
    `calibration` is a file of ``audit calibrate`` to use instead of the packaged coefficients.
    """

    data: str | Path | Images | None = None
    data_root: Path | None = None
    train_data: str | Path | None = None
    split: str = "test"
    download: bool = False
    max_samples: int = 500
    classes: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    profile: str = "full"
    sanitize: bool | None = None
    method: str = "auto"
    max_accuracy_drop: float = 0.02
    slim: bool = False
    out: Path | None = None
    images: bool = True
    memory: int = 6 * GIB
    timeout: float = 600.0
    budget: float | None = None
    device: str = "auto"
    jobs: int = 0
    seed: int = 0
    run_anyway: bool = False
    fail_on: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    policy: Policy | None = None
    policy_source: str = "default"
    command: str = ""
    baseline: Baseline | None = None
    settings: Mapping[str, Json] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    calibration: Path | None = None

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise UsageError(f"--profile must be one of {', '.join(PROFILES)}")
        if self.max_samples < 10:
            raise UsageError("--max-samples must be at least 10")
        if self.device not in {"auto", "cpu", "cuda"}:
            raise UsageError("--device must be auto, cpu or cuda")
        for name in ("memory", "timeout"):
            if getattr(self, name) <= 0:
                raise UsageError(f"--{name} must be above zero")
        if self.budget is not None and self.budget <= 0:
            raise UsageError("--budget must be above zero")
