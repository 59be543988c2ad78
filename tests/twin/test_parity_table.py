"""`python -m benchmarks.parity` prints one row per network and form; here every row must hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.parity import (
    EXPORTERS,
    NETWORKS,
    OPSETS,
    Maker,
    Row,
    forms,
    markdown,
    measure,
    rows,
)
from tests.twin.torch_checks import WAYS


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_form_of_a_required_network(network: str) -> None:
    torch.set_num_threads(1)
    found = list(rows(network, 64))
    print("\n" + markdown(found))
    assert [row.form for row in found] == forms(network)
    assert all(row.passed for row in found), [row for row in found if not row.passed]
    made = {row.form for row in found if row.forward is not None}
    assert set(WAYS) <= made
    for exporter in EXPORTERS:  # only the exporter's own limits may leave a row out
        assert sum(form.startswith(f"onnx {exporter}") for form in made) >= len(OPSETS) - 1


def test_one_row_is_measured(tmp_path: Path) -> None:
    maker = Maker("squeezenet1_1", 32, tmp_path)
    row = measure("squeezenet1_1", "traced", maker.make("traced"), maker.images)
    assert row.passed
    assert row.gradient is not None
    assert "squeezenet1_1 | traced" in markdown([row])


def test_a_row_over_its_limit_is_marked() -> None:
    assert not Row("n", "traced", forward=2e-4, gradient=1e-6, seconds=1.0).passed
    assert not Row("n", "traced", forward=1e-6, gradient=2e-3, seconds=1.0).passed
    assert not Row("n", "traced").passed
    row = Row("n", "onnx legacy 13", reason="the exporter | says no")
    assert row.passed
    assert "not made: the exporter / says no" in markdown([row])
    bad = Row("n", "traced", forward=1.0, gradient=0.0, seconds=0.1)
    assert "**over the limit**" in markdown([bad])
