"""Fixtures that several tests share."""

from __future__ import annotations

import os

# Before torch is imported, here and in what the tests start: on models this small two threads spend
# their time waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: no test may download

import pytest

from pasta_chains import demo
from pasta_chains.engine import SteeredModel


@pytest.fixture(scope="session")
def embedded() -> SteeredModel:
    """The model that comes with the package."""
    return SteeredModel.from_pretrained(demo.MODEL)
