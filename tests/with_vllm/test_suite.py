"""All that a model can be asked, asked of a real server; see tests/test_emphasis_model.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Served
from test_emphasis_model import *  # noqa: F403  (its tests, with the fixtures below)

from pasta_chains import EmphasisModel, SteeredModel, connect
from pasta_chains.langchain import ChatPasta

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


def test_a_call_of_a_tool_can_be_asked_for(model: EmphasisModel) -> None:
    parameters = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
    }
    tool = {"type": "function", "function": {"name": "ask", "parameters": parameters}}
    chat = ChatPasta(model=model, max_tokens=60).bind_tools([tool], tool_choice="any")
    (call,) = chat.invoke("Is it?").tool_calls
    assert call["name"] == "ask"
    assert call["args"] in ({"sure": True}, {"sure": False})
