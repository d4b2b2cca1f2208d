"""Fixtures of the tests that talk to servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cases import CASES, Case
from models import EMBEDDED, save_random
from server import Server, serving
from traffic import Answer, Ask, traffic

from pasta_chains.engine import SteeredModel
from pasta_chains.profile import FILE_NAME


@dataclass(frozen=True)
class Served:
    """A server, how it was started, and the model that its answers are compared with."""

    case: Case
    server: Server
    steered: SteeredModel


@dataclass(frozen=True)
class Mixed:
    """Requests, and what `SteeredModel` answers to them."""

    asks: list[Ask]
    answers: list[Answer]


@pytest.fixture(scope="session")
def steered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SteeredModel]:
    """The models, as transformers runs them."""
    folders = {"random": save_random(tmp_path_factory.mktemp("model")), "embedded": EMBEDDED}
    return {name: SteeredModel.from_pretrained(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def mixed(steered: dict[str, SteeredModel]) -> dict[str, Mixed]:
    """The same kinds of requests for each model."""
    found = {}
    for name, model in steered.items():
        asks = traffic(model.tokenizer, 200)
        found[name] = Mixed(asks, [Answer.of_model(model, ask) for ask in asks])
    return found


@pytest.fixture(scope="session")
def served(
    request: pytest.FixtureRequest,
    steered: dict[str, SteeredModel],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """The server of a case, one at a time."""
    case = CASES[request.param]
    model = Path(steered[case.model].name)
    with serving(
        model, tmp_path_factory.mktemp("server"), *case.options,
        steering={"profile": str(model / FILE_NAME), **case.steering},
        environment=case.environment, path=case.path,
    ) as server:  # fmt: skip
        yield Served(case, server, steered[case.model])
