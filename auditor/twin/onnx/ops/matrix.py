"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.twin.onnx.ops.convolution import activate
from auditor.twin.onnx.registry import Node, op


@op("Gemm", "com.microsoft::FusedGemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha A B + beta C, either factor transposed on request."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.t() if node.get("transA", 0) else a
    if node.get("transB", 0) and alpha == 1 and (c is None or (beta == 1 and c.dim() == 1)):
        return activate(node, F.linear(a, b, c))
    y: Tensor = a @ (b.t() if node.get("transB", 0) else b)
    y = y if alpha == 1 else alpha * y
    if c is not None:
        y = y + (c if beta == 1 else beta * c)
    return activate(node, y)


@op("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Matrix product with numpy's broadcasting."""
    return torch.matmul(a, b)


@op("com.microsoft::FusedMatMul")
def fused_matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Matrix product with scaling and transposition (ONNX Runtime's own fusion)."""
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        raise NotImplementedError("FusedMatMul with transposed batch axes")
    a = a.transpose(-1, -2) if node.get("transA", 0) else a
    b = b.transpose(-1, -2) if node.get("transB", 0) else b
    y: Tensor = node.get("alpha", 1.0) * torch.matmul(a, b)
    return y


@op("Einsum")
def einsum(node: Node, *tensors: Tensor) -> Tensor:
    """Einstein summation."""
    return torch.einsum(node.get("equation"), *tensors)
