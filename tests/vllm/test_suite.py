"""All that a model can be asked, asked of a real server; see tests/test_emphasis_model.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Served
from test_emphasis_model import *  # noqa: F403  (its tests, with the fixtures below)

from pasta_chains import EmphasisModel, SteeredModel, connect

pytestmark = pytest.mark.parametrize("served", ["tensor parallel"], indirect=True)


@pytest.fixture
def local(steered: dict[str, SteeredModel]) -> SteeredModel:
    """The model of the server, as transformers runs it."""
    return steered["random"]


@pytest.fixture
def model(served: Served) -> Iterator[EmphasisModel]:
    """The client of the server."""
    remote = connect(served.server.url)
    yield remote
    remote.close()
