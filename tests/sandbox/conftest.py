"""A worker that knows the tests' operations."""

import pytest

from auditor.sandbox.host import Worker
from auditor.sandbox.limits import MIB, Limits
from tests.sandbox.operations import OPS


@pytest.fixture
def worker():
    with Worker(limits=Limits(memory=600 * MIB, timeout=20), extra_ops=OPS) as running:
        yield running


@pytest.fixture(scope="module")
def shared_worker():
    """For tests that leave the process as it was."""
    with Worker(limits=Limits(timeout=60), extra_ops=OPS) as running:
        yield running
