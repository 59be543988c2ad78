"""One scan with the checks a probability rests on, for the benchmarks that time them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from auditor.calibration.judge import CHECKS
from auditor.options import ScanOptions
from auditor.report.model import Report
from auditor.samples.interface import Images
from auditor.scanning import scan


def detect(model: Path, samples: Images, budget: float, threads: int = 0) -> Report:
    """The report on the file `model` within `budget` seconds; `threads` 0: as an audit chooses."""
    options = ScanOptions(
        data=samples, checks=CHECKS, sanitize=False, images=False,
        budget=budget, jobs=threads, device="cpu", fail_on="never",
    )  # fmt: skip
    return scan(model, options=options)


def detect_in(net: nn.Module, samples: Images, budget: float) -> Report:
    """The same for a network in memory, traced into a TorchScript file."""
    with tempfile.TemporaryDirectory() as room:
        model = Path(room) / "model.pt"
        torch.jit.trace(net, torch.from_numpy(samples.pixels[:2])).save(str(model))
        return detect(model, samples, budget)


def seconds(report: Report) -> float:
    """What these checks took together."""
    return round(sum(c.seconds for c in report.checks if c.name in CHECKS), 1)


def left_out(report: Report) -> str:
    """What the time budget ended or thinned, in the report's words."""
    return " ".join(n for c in report.checks for n in c.notices if "budget" in n)
