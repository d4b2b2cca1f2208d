"""The client on the embedded model: tests/test_chains_anywhere.py, and what needs a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Served
from test_chains_anywhere import *  # noqa: F403  (its tests, with the fixture `where` below)

from pasta_chains import RemoteModel, SteeredModel, connect
from pasta_chains.demo.questions import evaluate
from pasta_chains.errors import PromptError
from pasta_chains.langchain import PastaLLM
from pasta_chains.structured import Structure

pytestmark = pytest.mark.parametrize("served", ["compiled, embedded"], indirect=True)

QUESTIONS = 25
PROMPT = "Answer the question.\n\nQuestion: Who is the mayor of Tarn?\nAnswer:"


@pytest.fixture
def where(served: Served) -> dict[str, Any]:
    """The server, for the tests of chains."""
    return {"base_url": served.server.url}


@pytest.fixture
def remote(served: Served) -> Iterator[RemoteModel]:
    """The client of the server."""
    model = connect(served.server.url, retries=0)
    yield model
    model.close()


class ThroughLangChain:
    """Answers the demo's questions as a chain would."""

    def __init__(self, where: dict[str, Any]) -> None:
        self._llm = PastaLLM(**where, max_new_tokens=64, use_chat_template=True)

    def generate(self, batch: list[Any], **_: Any) -> list[str]:
        return self._llm.batch([message["content"] for (message,) in batch])


def test_the_demos_table_is_the_local_one(
    where: dict[str, Any], steered: dict[str, SteeredModel]
) -> None:
    here = list(evaluate(steered["embedded"], QUESTIONS, chat=True))
    there: Any = ThroughLangChain(where)
    assert list(evaluate(there, QUESTIONS, chat=True)) == here


def test_forms_of_answers(remote: RemoteModel) -> None:
    schema = {
        "type": "object",
        "properties": {"place": {"type": "string"}, "sure": {"type": "boolean"}},
        "required": ["place", "sure"],
        "additionalProperties": False,
    }
    told = json.loads(remote.generate(PROMPT, structure=Structure.json(schema), max_new_tokens=60))
    assert told.keys() == {"place", "sure"}
    options = [" Ada Lowe", " Bo Marsh"]
    assert remote.generate(PROMPT, structure=Structure.choice(options)) in options
    found = remote.generate(PROMPT, structure=Structure.regex("[0-9]{3}"))
    assert len(found) == 3
    assert found.isdecimal()
    grammar = 'start: "yes" | "no" digit\ndigit: /[0-9]/'
    assert remote.generate(PROMPT, structure=Structure.lark(grammar))[:2] in ("ye", "no")


def test_several_samples_with_a_seed(remote: RemoteModel) -> None:
    arguments: dict[str, Any] = {"do_sample": True, "num_return_sequences": 3, "temperature": 2.0}
    first = remote.generate(PROMPT, seed=1, max_new_tokens=8, **arguments)
    assert len(set(first)) > 1
    assert remote.generate(PROMPT, seed=1, max_new_tokens=8, **arguments) == first
    assert remote.generate(PROMPT, seed=2, max_new_tokens=8, **arguments) != first


def test_a_client_that_goes_away_frees_its_request(remote: RemoteModel, served: Served) -> None:
    # A busy machine may show the first piece only when all has been written: then once more.
    assert any(cut_after_the_first_piece(remote, served) < 600 for _ in range(5))


def cut_after_the_first_piece(remote: RemoteModel, served: Served) -> float:
    """How many of 700 tokens the server writes for a client that reads one piece."""
    before = written(served)
    stream = remote.stream(PROMPT, max_new_tokens=700, ignore_eos=True)
    next(stream)
    stream.close()
    while (now := written(served)) == before or now != (time.sleep(0.5) or written(served)):
        pass
    return now - before


def written(served: Served) -> float:
    """How many tokens the server has written; it tells a moment later."""
    return served.server.counter("vllm:generation_tokens")


def test_what_the_server_refuses_is_a_prompt_error(remote: RemoteModel) -> None:
    with pytest.raises(PromptError, match=r"The server refuses this: .*max allowed: 20"):
        remote.generate(PROMPT, logprobs=21)
