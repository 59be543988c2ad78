"""Does the twin of every supported form of a network compute what the file computes? One table.

    python -m benchmarks.parity [--network NAME ...] [--markdown FILE] [--keep FILE] [--side 64]

torchvision's networks with random weights, written by both ONNX exporters at each operator set, as
scripted, traced and frozen TorchScript, as `.pt2`, and resnet18 as static-quantized QDQ by ONNX
Runtime's quantizer. `forward` is the largest difference between the twin's and the native runtime's
output over the largest output (limit 1e-4; quantized: `auditor.twin.parity.REDUCED_TOLERANCE`),
`gradient` the largest error of the input gradient against finite differences in float64 on 20
random coordinates, relative to the largest (limit 1e-3; quantized nets have straight-through
gradients, which finite differences cannot judge), `seconds` the time to open the file, compare and
difference. Exit code 1 when a row is over its limit. With --keep, rows are appended to FILE as
JSON lines and rows already there are not measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auditor.artifacts.open import open_artifact
from auditor.twin.parity import TOLERANCE, check_parity
from tests.twin.finite_differences import LIMIT, gradient_error
from tests.twin.onnx.exporting import capture, export
from tests.twin.onnx.test_quantized_networks import quantized
from tests.twin.torch_checks import WAYS

NETWORKS = (
    "resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "swin_t", "vit_b_16"
)  # fmt: skip
FURTHER = (
    "vgg11_bn", "densenet121", "inception_v3", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5"
)  # fmt: skip
OPSETS = (13, 17, 18, 20, 23)
EXPORTERS = ("legacy", "dynamo")
_SIDES = {"inception_v3": 96, "vgg11_bn": 224}


@dataclass(frozen=True, slots=True)
class Row:
    """One network in one form; `reason` says why the exporter could not make it."""

    network: str
    form: str
    written: str = ""
    forward: float | None = None
    gradient: float | None = None
    seconds: float | None = None
    limit: float = TOLERANCE
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Within both limits, or not makeable."""
        if self.forward is None:
            return bool(self.reason)
        return self.forward <= self.limit and (self.gradient is None or self.gradient <= LIMIT)


def forms(network: str) -> list[str]:
    """The forms of one network in table order."""
    onnx = [f"onnx {exporter} {opset}" for exporter in EXPORTERS for opset in OPSETS]
    found = [*onnx, *WAYS]
    return [*found, "onnx qdq"] if network == "resnet18" else found


def build(network: str, side: int) -> tuple[nn.Module, Tensor]:
    """The network with random weights and a batch of two images for it."""
    import torchvision

    torch.manual_seed(0)
    options: dict[str, Any] = {"image_size": side} if network.startswith("vit") else {}
    if network == "inception_v3":
        options = {"aux_logits": False, "init_weights": True}
    module = torchvision.models.get_model(network, weights=None, **options).eval()
    for parameter in module.parameters():  # some heads start at zero: no output, no gradient
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return module, torch.rand(2, 3, side, side)


class Maker:
    """Writes one network in its forms; what torch.export captures is kept for all of them."""

    def __init__(self, network: str, side: int, folder: Path) -> None:
        self.module, self.images = build(network, side)
        self.folder = folder
        self.side = side
        self._captured: Any = None

    def make(self, form: str) -> Path:
        """The file. Raises what the exporter raises."""
        if form in WAYS:
            suffix, save = WAYS[form]
            images = self.images if form == "exported" else self.images[:1]
            return save(self.module, images, self.folder / f"net{suffix}")
        if form == "onnx qdq":
            return quantized(self.folder, self.module, self.side, "qdq")[1]
        _, exporter, opset = form.split()
        source: Any = self.module
        if exporter == "dynamo":
            self._captured = self._captured or capture(self.module, self.images)
            source = self._captured
        return export(source, self.images, self.folder / "net.onnx", exporter, int(opset))


def measure(network: str, form: str, path: Path, images: Tensor) -> Row:
    """Open `path`, compare the twin with the runtime, and its gradient with finite differences."""
    started = time.perf_counter()
    artifact = open_artifact(path)
    twin = artifact.open_twin()
    parity = check_parity(artifact.open_runtime(), twin, images.numpy())
    exempt = parity.tolerance != TOLERANCE
    gradient = None if exempt else gradient_error(twin, images).worst
    version = artifact.describe().version if path.suffix == ".onnx" else ""
    seconds = round(time.perf_counter() - started, 1)
    return Row(network, form, version, parity.max_rel, gradient, seconds, parity.tolerance)


def rows(network: str, side: int, known: set[tuple[str, str]] | None = None) -> Iterator[Row]:
    """Measure every form of `network` that is not in `known`."""
    with tempfile.TemporaryDirectory() as folder:
        maker: Maker | None = None
        for form in forms(network):
            if known and (network, form) in known:
                continue
            maker = maker or Maker(network, _SIDES.get(network, side), Path(folder))
            try:
                path = maker.make(form)
            except Exception as error:  # the exporter's limits are not ours, but they are shown
                lines = str(error).strip().splitlines() or [type(error).__name__]
                yield Row(network, form, reason=lines[0][:100])
                continue
            yield measure(network, form, path, maker.images)
            path.unlink()


def markdown(found: list[Row]) -> str:
    """The table as text that reads well in a terminal and in the docs."""
    lines = [
        "| network | form | opset written | forward | gradient | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in found:
        if row.forward is None:
            cells = ["", f"not made: {row.reason.replace('|', '/')}", "", ""]
        else:
            slope = "straight-through" if row.gradient is None else f"{row.gradient:.1e}"
            cells = [row.written, f"{row.forward:.1e}", slope, f"{row.seconds}"]
        mark = "" if row.passed else " **over the limit**"
        lines.append(f"| {row.network} | {row.form}{mark} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and say by the exit code whether every row is within its limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", action="append", choices=(*NETWORKS, *FURTHER))
    parser.add_argument("--side", type=int, default=64, help="pixels (some networks need more)")
    parser.add_argument("--markdown", type=Path, help="also write the table here")
    parser.add_argument("--keep", type=Path, help="JSON lines of finished rows, reused")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = options.network or NETWORKS
    kept: list[Row] = []
    if options.keep and options.keep.exists():
        kept = [Row(**json.loads(line)) for line in options.keep.read_text().splitlines()]
    known = {(row.network, row.form) for row in kept}
    for network in networks:
        for row in rows(network, options.side, known):
            kept.append(row)
            print(markdown([row]).splitlines()[-1], flush=True)
            if options.keep:
                with options.keep.open("a") as out:
                    out.write(json.dumps(asdict(row)) + "\n")
    order = {(n, f): i for i, (n, f) in enumerate((n, f) for n in networks for f in forms(n))}
    chosen = [row for row in kept if (row.network, row.form) in order]
    chosen.sort(key=lambda row: order[row.network, row.form])
    text = markdown(chosen)
    print("\n" + text)
    made = [row for row in chosen if row.forward is not None]
    over = [row for row in chosen if not row.passed]
    print(
        f"\n{len(made)} files measured, {len(chosen) - len(made)} the exporter cannot make, "
        f"{len(over)} over a limit"
    )
    if options.markdown:
        options.markdown.write_text(text + "\n")
    raise SystemExit(1 if over else 0)


if __name__ == "__main__":
    main()
