"""Scaled dot-product attention, standard from operator set 23."""

from __future__ import annotations

import torch
from torch import Tensor

from auditor.twin.onnx.registry import Node, Result, op


def _heads(x: Tensor, count: int | None) -> Tensor:
    """(batch, length, heads * size) -> (batch, heads, length, size); 4-D stays."""
    if x.dim() == 4 or count is None:
        return x
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _bias(node: Node, mask: Tensor | None, scores: Tensor) -> Tensor:
    """`scores` with the mask and causality applied."""
    if node.get("is_causal", 0):
        rows, columns = scores.shape[-2:]
        allowed = torch.ones(rows, columns, dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, float("-inf"))
    return scores + mask


@op("Attention")
def attention(
    node: Node,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
) -> Result:
    """Softmax(scale Q K^T + mask) V (Vaswani et al., 2017), without caches of past tokens."""
    if past_key is not None or past_value is not None or node.outputs > 1:
        raise NotImplementedError("Attention with a key-value cache")
    flat = q.dim() == 3
    q = _heads(q, node.get("q_num_heads"))
    k = _heads(k, node.get("kv_num_heads"))
    v = _heads(v, node.get("kv_num_heads"))
    if k.shape[1] != q.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        v = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)
    scale = node.get("scale") or q.shape[-1] ** -0.5
    scores = _bias(node, mask, torch.matmul(q, k.transpose(-1, -2)) * scale)
    cap = node.get("softcap", 0.0)
    if cap:
        scores = cap * torch.tanh(scores / cap)
    y = torch.matmul(torch.softmax(scores, -1), v)
    return y.transpose(1, 2).flatten(2) if flat else y
