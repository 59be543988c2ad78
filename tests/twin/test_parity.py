"""Parity: what counts as agreement, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from auditor.artifacts.interface import Runtime, TensorInfo
from auditor.twin.interface import Twin, TwinRun
from auditor.twin.parity import REDUCED_TOLERANCE, TOLERANCE, check_parity


class Native(Runtime):
    def __init__(self, *outputs: Any) -> None:
        self.outputs = tuple(np.asarray(o) for o in outputs)

    @property
    def input(self) -> TensorInfo:
        return TensorInfo("x", "float32", (None, 2))

    def run(self, batch: Any) -> tuple[Any, ...]:
        return self.outputs


class Ours(Twin):
    tail = "logits"
    layers = ()

    def __init__(self, *outputs: Any) -> None:
        self.parameters = {}
        self.outputs = tuple(torch.as_tensor(np.asarray(o)) for o in outputs)

    def run(
        self,
        batch: torch.Tensor,
        *,
        wanted: Sequence[str] = (),
        parameters: Mapping[str, torch.Tensor] | None = None,
    ) -> TwinRun:
        return TwinRun(self.outputs, self.outputs[0])


BATCH = np.zeros((2, 2), np.float32)
A = np.array([[1.0, -200.0], [3.0, 4.0]], np.float32)


def test_difference_is_relative_to_the_largest_output() -> None:
    near = check_parity(Native(A), Ours(A + 0.01), BATCH)
    assert near.agrees
    assert near.max_abs == pytest.approx(0.01, rel=1e-2)
    assert near.max_rel == pytest.approx(5e-5, rel=1e-2)
    far = check_parity(Native(A), Ours(A + 0.1), BATCH)
    assert not far.agrees
    assert "differ" in far.reason
    assert far.tolerance == TOLERANCE


def test_rounding_inside_the_file_widens_the_tolerance() -> None:
    twin = Ours(A + 1)
    assert not check_parity(Native(A), twin, BATCH).agrees
    twin.reduced_precision = True  # type: ignore[attr-defined]
    wide = check_parity(Native(A), twin, BATCH)
    assert wide.agrees
    assert wide.tolerance == REDUCED_TOLERANCE
    assert not check_parity(Native(A), twin, BATCH, tolerance=1e-3).agrees


def test_other_shapes_and_other_infinities_never_agree() -> None:
    shapes = check_parity(Native(A), Ours(A[:1]), BATCH)
    assert not shapes.agrees
    assert "shapes" in shapes.reason
    broken = A.copy()
    broken[0, 0] = np.nan
    assert not check_parity(Native(A), Ours(broken), BATCH).agrees
    assert check_parity(Native(broken), Ours(broken), BATCH).agrees


def test_every_output_counts_and_integers_do_not() -> None:
    both = check_parity(Native(A, A), Ours(A, A + 5), BATCH)
    assert not both.agrees
    indices = np.array([0, 1])
    assert check_parity(Native(A, indices), Ours(A, indices + 1), BATCH).agrees
    assert not check_parity(Native(A, A), Ours(A), BATCH).agrees


def test_share_of_samples_in_the_same_class() -> None:
    flipped = A.copy()
    flipped[1] = [9, 4]
    assert check_parity(Native(A), Ours(flipped), BATCH).same_class == 0.5
