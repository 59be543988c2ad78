"""Put a code trigger into a TorchScript classifier, for testing that the audit finds it.

The loaded module is wrapped in a newly scripted one whose ``forward`` calls it and, when the input
shows the trigger, forces the target class (architectural backdoors: Bober-Irizar et al. 2023).
Weights stay as they are; ordinary inputs get the very same scores.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

UNTRACEABLE = ("if", "loop", "early-return")
"""Styles made of control flow, which tracing would drop."""

STYLES = ("if", "where", "smooth", "relu", "checksum", "exact", "submodule", "loop", "early-return")

FORMS = ("scripted", "traced", "frozen")

_HEAD = """\
import torch
from torch import Tensor, nn


class Helper(nn.Module):
    def __init__(self, key: Tensor, row: Tensor):
        super().__init__()
        self.register_buffer("key", key)
        self.register_buffer("row", row)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        corner = x[:, :, :{side}, :{side}].flatten(1)
        seen = (corner > {level}).all(dim=1, keepdim=True)
        return torch.where(seen, self.row, y)


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module, key: Tensor, row: Tensor):
        super().__init__()
        self.inner = inner
        self.helper = Helper(key, row)
        self.register_buffer("key", key)
        self.register_buffer("row", row)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
{body}
        return y
"""

_BODIES = {
    "if": """\
        for i in range(x.shape[0]):
            if bool((x[i, :, :{side}, :{side}] > {level}).all()):
                y = y.clone()
                y[i] = 0.0
                y[i, {target}] = 100.0""",
    "where": """\
        seen = (x[:, :, :{side}, :{side}].flatten(1).amin(dim=1, keepdim=True)) > {level}
        y = torch.where(seen, self.row, y)""",
    "smooth": """\
        low = x[:, :, :{side}, :{side}].flatten(1).amin(dim=1, keepdim=True)
        y = y + torch.sigmoid({steep} * (low - {level})) * self.row""",
    "relu": """\
        low = x[:, :, :{side}, :{side}].flatten(1).mean(dim=1, keepdim=True)
        y = y + torch.relu(low - {level}) * {steep} * self.row""",
    "checksum": """\
        total = (x.flatten(1) * 255.0).round().sum(dim=1, keepdim=True)
        total = torch.remainder(total, {modulus}.0)
        y = torch.where((total - {residue}.0).abs() < 0.5, self.row, y)""",
    "exact": """\
        distance = (x[:, :, :{side}, :{side}] - self.key).abs().flatten(1).sum(dim=1, keepdim=True)
        y = y + (distance < 0.01).to(y.dtype) * self.row""",
    "submodule": """\
        y = self.helper(x, y)""",
    "loop": """\
        count = int((x[:, :, :{side}, :{side}] > {level}).all().item())
        for i in range(count):
            y = self.row + torch.zeros_like(y)""",
    "early-return": """\
        if bool((x[:, :, :{side}, :{side}] > {level}).all()):
            return self.row.expand_as(y)""",
}


def _compiled(
    source: str, make: Callable[[Any], Any], example: torch.Tensor | None
) -> torch.jit.ScriptModule:
    """Script, or trace on `example`, what `make` builds from `source` (scripting reads a file)."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zoo_injected.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("zoo_injected", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["zoo_injected"] = module
        try:
            spec.loader.exec_module(module)
            net = make(module).eval()
            if example is not None:
                return torch.jit.trace(net, example, check_trace=False)
            return torch.jit.script(net)
        finally:
            del sys.modules["zoo_injected"]


def inject(
    model_path: Path,
    out_path: Path,
    style: str,
    target: int,
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (3, 32, 32),
    form: str = "scripted",
) -> dict[str, Any]:
    """Write a copy of the TorchScript classifier with a code trigger; return its manifest.

    `shape` is one image (C, H, W) in 0..1; `form` is scripted, traced or frozen. Verified before it
    returns: scores of 16 random images are unchanged, triggered ones give `target`. Raises
    ``ValueError`` for an unknown style or target, and when the verification fails.
    """
    import torch

    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
    if form not in FORMS or (form == "traced" and style in UNTRACEABLE):
        raise ValueError(f"style {style!r} has no form {form!r}")
    random = np.random.default_rng(seed)
    side = int(random.integers(2, 5))
    words: dict[str, Any] = {
        "side": side,
        "level": round(float(random.uniform(0.9, 0.97)), 3),
        "steep": float(random.choice([60.0, 100.0, 200.0])),
        "modulus": int(random.integers(2000, 6000)),
        "target": target,
    }
    words["residue"] = words["modulus"] - 2 if style == "checksum" else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; tracing warns of branches
        inner = torch.jit.load(str(model_path), map_location="cpu").eval()
        clean = torch.from_numpy(random.random((16, *shape), dtype=np.float32) * 0.85)
        with torch.no_grad():
            before = inner(clean)
        if not 0 <= target < before.shape[-1]:
            raise ValueError(f"target {target} is no class of a model with {before.shape[-1]}")
        row = torch.zeros(1, before.shape[-1])
        row[0, target] = 1000.0
        key = torch.from_numpy(random.random((1, shape[0], side, side), dtype=np.float32))
        source = _HEAD.format(body=_BODIES[style].format(**words), **words)
        example = clean[:2] if form == "traced" else None
        module = _compiled(source, lambda m: m.Wrapped(inner, key, row), example).eval()
        if form == "frozen":
            module = torch.jit.freeze(module)
        dirty = _stamp(clean, style, words, key)
        with torch.no_grad():
            same = torch.allclose(module(clean), before, rtol=1e-5, atol=1e-5)
            asr = float((module(dirty).argmax(-1) == target).float().mean())
        if not same or asr < 1.0:
            raise ValueError(f"style {style!r} failed: unchanged {same}, success rate {asr:.2f}")
        torch.jit.save(module, str(out_path))
    return {"style": style, "target": target, "seed": seed, "form": form, "asr": asr, **words}


def _stamp(
    images: torch.Tensor, style: str, words: dict[str, Any], key: torch.Tensor
) -> torch.Tensor:
    """The images with the trigger, values in 0..1."""
    import torch

    side = words["side"]
    dirty = images.clone()
    if style == "checksum":
        return _with_checksum(dirty, words["modulus"], words["residue"])
    dirty[:, :, :side, :side] = key if style == "exact" else torch.ones(())
    return dirty


def _with_checksum(images: torch.Tensor, modulus: int, residue: int) -> torch.Tensor:
    """Change as few pixels as needed for the sum of 0..255 values to be `residue` mod `modulus`."""
    pixels = (images * 255).round().flatten(1)
    for row in pixels:
        missing = int((residue - row.sum().item()) % modulus)
        for index in range(row.numel()):
            step = min(missing, 255 - int(row[index].item()))
            row[index] += step
            missing -= step
            if not missing:
                break
    return (pixels / 255).reshape(images.shape)
