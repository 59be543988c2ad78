"""From the parameters that commands share to the `ScanOptions` they all mean."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from auditor.commands.common import classes, command_line, commas, memory
from auditor.commands.parameters import overrides
from auditor.commands.running import gate, policy_from

if TYPE_CHECKING:
    from auditor.options import ScanOptions

_AS_GIVEN = frozenset(
    (
        *("data", "data_root", "train_data", "split", "download", "max_samples"),
        *("profile", "sanitize", "slim", "run_anyway", "seed", "device", "calibration"),
        *("timeout", "budget", "jobs"),
    )
)
"""Parameters that are fields of the same name."""

_PREPROCESSING = ("layout", "size", "scale", "mean", "std")


def scan_options(given: Mapping[str, Any], **instead: Any) -> ScanOptions:
    """What a command was told, by the names its parameters have (its ``locals()`` at the start).

    Parameters a command does not have keep their defaults; `instead` replaces single fields.
    Raises `UsageError` for words that mean nothing.
    """
    from auditor.options import ScanOptions

    fields: dict[str, Any] = {name: given[name] for name in given.keys() & _AS_GIVEN}
    fields |= {
        "classes": classes(given.get("class_names")),
        "checks": commas(given.get("checks")),
        "skip": commas(given.get("skip")),
        "images": not given.get("no_images", False),
        "memory": memory(given["memory_limit"]),
        "fail_on": gate(given.get("fail_on")),
        "overrides": overrides(*(given[name] for name in _PREPROCESSING)),
        "command": command_line(sys.argv[1:]),
    }
    if "config" in given:
        policy, source, baseline = policy_from(given["config"])
        fields |= {"policy": policy, "policy_source": source, "baseline": baseline}
    return ScanOptions(**(fields | instead))
