"""Exports of torch modules by both exporters, for tests."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import torch
from torch import nn


def export(
    module: nn.Module,
    sample: torch.Tensor,
    path: Path,
    exporter: str,
    opset: int,
    **options: object,
) -> Path:
    """Export with ``dynamo`` or ``legacy``. Raises what the exporter raises."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                batch = torch.export.Dim("N", min=1, max=64)
                torch.onnx.export(
                    module.eval(),
                    (sample,),
                    path,
                    dynamo=True,
                    opset_version=opset,
                    dynamic_shapes=({0: batch},),
                    verbose=False,
                    **options,
                )
            else:
                buffer = io.BytesIO()
                torch.onnx.export(
                    module.eval(),
                    (sample,),
                    buffer,
                    dynamo=False,
                    opset_version=opset,
                    input_names=["input"],
                    dynamic_axes={"input": {0: "N"}},
                    **options,
                )
                path.write_bytes(buffer.getvalue())
    finally:
        logging.disable(logging.NOTSET)
    return path
