"""A fleet run in this process, with the scan replaced where a test is not about it."""

import json
from pathlib import Path

import pytest

from auditor.fleet.cluster import pool_for
from auditor.fleet.driver import FleetOptions, run_fleet
from auditor.fleet.pools import HerePool
from auditor.options import ScanOptions
from tests.fleet.models import write, write_hostile


@pytest.fixture
def fleet(tmp_path):
    """``fleet(source, ...)`` audits the files (file profile) into tmp_path/out; with ``jobs`` in
    worker processes, else right here."""

    def run(*sources, out=tmp_path / "out", jobs=0, **options):
        scan = ScanOptions(profile="file", sanitize=False, jobs=1, **options.pop("scan", {}))
        pool = options.pop("pool", None) or (
            lambda: pool_for(None, jobs, scan.memory) if jobs else HerePool()
        )
        wanted = FleetOptions(tuple(map(str, sources)), Path(out), scan, **options)
        return run_fleet(wanted, pool)

    return run


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    write(folder / "a.onnx", 1)
    write(folder / "sub" / "no-extension", 2)
    write_hostile(folder / "sub" / "bad.onnx", 3)
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "README.md").write_text("about")
    (folder / "samples.npz").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / ".hidden.onnx").write_bytes(b"")
    return folder


@pytest.fixture
def index(tmp_path):
    """The index as JSON."""
    return lambda out=tmp_path / "out": json.loads((Path(out) / "index.json").read_text())


@pytest.fixture
def log(tmp_path):
    """The log's lines as records."""

    def read(out=tmp_path / "out"):
        lines = (Path(out) / "fleet.log.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    return read
