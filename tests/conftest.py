"""What several test folders share: the digits zoo, built once, and the real test material."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean, backdoored and adversarially trained digits models in both formats."""
    from zoo.datasets import load_dataset
    from zoo.recipes.registry import Workshop, resolve

    folder = tmp_path_factory.mktemp("zoo")
    shop = Workshop(load_dataset("digits"), folder)
    for recipe in resolve(["all"]):
        recipe.run(shop)
    assert all(manifest.accepted for manifest in shop.manifests)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real models and data, beside the checkout or beside AUDITOR_DATA."""
    data = os.environ.get("AUDITOR_DATA")
    for folder in (Path(data).parent if data else None, Path(__file__).parents[2] / "shared"):
        if folder is not None and (folder / "models").is_dir():
            return folder
    pytest.skip("the shared test material is not here")
