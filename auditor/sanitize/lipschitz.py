"""Channel Lipschitz pruning (Zheng et al., ECCV 2022): silence channels that amplify too much.

Needs no samples. The upper bound of a channel's Lipschitz constant is the largest singular value
of its kernel, as a matrix, times the gain of the batch normalisation behind it (1 where there is
none, as in networks without it, which the paper does not treat). Channels above the layer's mean
plus `u` standard deviations are cut: u = 3 without samples; with samples the smallest u of a few at
which held-out accuracy stays. Weak on narrow layers, where a few channels decide the deviation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.sanitize.channels import Block, blocks, gains, silenced
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from auditor.sanitize.judge import Judge

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.classifier import Classifier

_DATA_FREE = 3.0
_TRIED = (3.0, 2.5, 2.0, 1.5, 1.0)
_WIDE_ENOUGH = 4


class LipschitzPruning(Sanitizer):
    """Cut channels whose Lipschitz bound stands out in their layer."""

    name = "lipschitz-pruning"
    title = "Channel Lipschitz pruning"
    doc = __doc__ or ""
    needs_samples = False
    order = 10
    share = 0.15

    def repair(self, context: RepairContext) -> Repair | None:
        """The cut network, or None when no channel stands out or no layer has channels."""
        found = blocks(context.classifier)
        if not found:
            return None
        bounds = lipschitz_bounds(context.classifier, found, context.seed)
        best: tuple[float, list[tuple[Block, Tensor]]] | None = None
        judge = Judge(context) if len(context.held_out) else None
        for u in _TRIED if judge is not None else (_DATA_FREE,):
            if context.budget.spent:
                break
            cut = outliers(found, bounds, u)
            if not cut:
                continue
            parameters, _ = silenced(context.classifier, cut)
            if judge is not None and not judge.see(parameters).acceptable:
                break
            best = (u, cut)
        if best is None:
            return None
        u, cut = best
        parameters, _ = silenced(context.classifier, cut)
        record = {
            "u": u,
            "pruned_channels": sum(len(index) for _, index in cut),
            "layers": [block.layer.label for block, _ in cut],
        }
        changes = {name: value.cpu().numpy() for name, value in parameters.items()}
        return Repair(self.name, changes, record)


def lipschitz_bounds(classifier: Classifier, found: list[Block], seed: int) -> dict[str, Tensor]:
    """By layer name, the bound (C,) of every channel."""
    import torch

    assert classifier.twin is not None
    gain = gains(classifier, found, seed)
    result = {}
    for block in found:
        name = block.layer.weight
        assert name is not None
        weight = classifier.twin.parameters[name].movedim(block.layer.weight_axis or 0, 0)
        if weight.ndim > 2:
            kernels = weight.reshape(weight.shape[0], weight.shape[1], -1)
            norms = torch.linalg.matrix_norm(kernels, 2)
        else:
            norms = weight.norm(dim=1)
        result[block.layer.name] = norms * gain[block.layer.name].abs()
    return result


def outliers(found: list[Block], bounds: dict[str, Tensor], u: float) -> list[tuple[Block, Tensor]]:
    """Channels above mean + u standard deviations of their layer, where there are any."""
    import torch

    cut = []
    for block in found:
        values = bounds[block.layer.name]
        if len(values) < _WIDE_ENOUGH:
            continue
        index = torch.nonzero(values > values.mean() + u * values.std())[:, 0]
        if len(index):
            cut.append((block, index))
    return cut
