"""What the detour costs: the ONNX twin against its nn.Module, our runtime against plain ORT.

    python -m benchmarks.twin [--side 224] [--batch 32] [--rounds 7]

resnet18 with random weights, exported to ONNX. Forward plus backward to the input (no weight
gradients in either), interleaved rounds, medians. Targets: 1.15 for the twin, 1.05 natively.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torchvision.models import resnet18

from auditor.artifacts.open import open_artifact


def interleaved(first: Callable[[], object], second: Callable[[], object], rounds: int) -> float:
    """Median of the ratios second / first over `rounds`, after one warm-up each."""
    first(), second()
    ratios = []
    for _ in range(rounds):
        times = []
        for work in (first, second):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        ratios.append(times[1] / times[0])
    return statistics.median(ratios)


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    module = resnet18(weights=None).eval().requires_grad_(False)
    image = torch.rand(options.batch, 3, options.side, options.side)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' deprecations are not the subject
        path = Path(folder) / "resnet18.onnx"
        torch.onnx.export(module, (image[:2],), path, dynamo=False, dynamic_axes={"x": {0: "N"}},
                          input_names=["x"])  # fmt: skip
        artifact = open_artifact(path)
        twin, runtime = artifact.open_twin(), artifact.open_runtime(threads=options.threads)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        plain = onnxruntime.InferenceSession(str(path), settings)

    def back(run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        x = image.clone().requires_grad_(True)
        run(x).sum().backward()

    gradients = interleaved(
        lambda: back(module), lambda: back(lambda x: twin.run(x).logits), options.rounds
    )
    batch = np.ascontiguousarray(image.numpy())
    native = interleaved(
        lambda: plain.run(None, {"x": batch}), lambda: runtime.run(batch), options.rounds
    )
    size = f"resnet18, batch {options.batch}, {options.side} px, {options.threads} thread(s)"
    print(f"{size}, median of {options.rounds} interleaved rounds")
    print(f"twin forward+backward / nn.Module: {gradients:.2f} (target <= 1.15)")
    print(f"native prediction / onnxruntime:   {native:.2f} (target <= 1.05)")


if __name__ == "__main__":
    main()
