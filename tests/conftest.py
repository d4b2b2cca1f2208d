"""Fixtures that several tests share."""

from __future__ import annotations

import pytest

from pasta_chains import demo
from pasta_chains.engine import SteeredModel


@pytest.fixture(scope="session")
def embedded() -> SteeredModel:
    """The model that comes with the package."""
    return SteeredModel.from_pretrained(demo.MODEL)
