"""Two halves of a population with alike shares of everything: one to fit on, one to judge on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from auditor.bench.rows import Row


def halves(rows: Sequence[Row], seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Every second model of each kind, attack and data set goes to either half.

    Both files of one network (equal name without its suffix) go the same way.
    """
    networks = sorted({_network(row): row for row in reversed(rows)}.items())
    order = np.random.default_rng(seed).permutation(len(networks))
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for at in order:
        name, row = networks[at]
        t = row.truth
        strata[(str(t.backdoored), t.kind, t.dataset, t.rule, t.family)].append(name)
    dealt = [name for key in sorted(strata) for name in strata[key]]
    first = set(dealt[::2])
    return (
        [row for row in rows if _network(row) in first],
        [row for row in rows if _network(row) not in first],
    )


def _network(row: Row) -> str:
    return row.model.rpartition(".")[0]
