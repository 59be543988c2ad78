"""Injected code triggers work, leave ordinary answers alone, and are all found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from auditor.findings import Severity
from tests.checks.file.torch_nets import HONEST, IMAGE, save
from tests.checks.file.torch_scan import scan, serious
from zoo.inject_torchscript import FORMS, STYLES, UNTRACEABLE, inject

BASES = (("cnn", "scripted"), ("residual", "frozen"), ("attention", "traced"))
CASES = [
    (style, form)
    for style in STYLES
    for form in FORMS
    if form != "traced" or style not in UNTRACEABLE
]


@pytest.mark.parametrize("seed", range(36))
def test_every_injection_is_found_and_its_twin_is_clean(seed: int, tmp_path: Path) -> None:
    choice = random.Random(seed)
    style, form = CASES[seed % len(CASES)]
    base, base_form = choice.choice(BASES)
    clean = save(HONEST[base][0](), IMAGE, base_form, tmp_path / "clean.pt")
    target = choice.randrange(4)
    manifest = inject(clean, tmp_path / "bad.pt", style, target, seed, shape=(3, 8, 8), form=form)
    assert manifest["asr"] == 1.0 and manifest["target"] == target
    assert serious(scan(clean)) == []
    hits = [f for f in scan(tmp_path / "bad.pt") if f.rule == "code.trigger"]
    assert any(f.severity >= Severity.HIGH and f.target_class == target for f in hits)


def test_refuses_what_cannot_be(tmp_path: Path) -> None:
    clean = save(HONEST["cnn"][0](), IMAGE, "scripted", tmp_path / "clean.pt")
    with pytest.raises(ValueError, match="unknown style"):
        inject(clean, tmp_path / "bad.pt", "nonsense", 1)
    with pytest.raises(ValueError, match="no class"):
        inject(clean, tmp_path / "bad.pt", "where", 10, shape=(3, 8, 8))
    with pytest.raises(ValueError, match="has no form"):
        inject(clean, tmp_path / "bad.pt", "if", 1, form="traced")
    assert not (tmp_path / "bad.pt").exists()
