"""`ChatPasta.with_structured_output`: objects of a schema, since nothing else can be written."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

import pytest
import tiny
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from pasta_chains import HeadProfile, Span, SpanStr, SteeredModel
from pasta_chains.errors import PromptError
from pasta_chains.langchain import ChatPasta

TEXT = "The mayor of Tarn is Ada Lowe. Or Bo Marsh. Answer:"
MARKED = SpanStr(TEXT, [Span(21, 29)])


class Person(BaseModel):
    """Somebody."""

    name: Annotated[str, Field(max_length=6)]
    kind: Literal["mayor", "miller"]
    age: Annotated[int, Field(ge=0, le=99)] | None = None


class Kind(TypedDict):
    """What somebody is."""

    kind: Literal["mayor", "miller"]


@pytest.fixture(scope="module")
def chat() -> ChatPasta:
    profile = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)
    return ChatPasta(model=SteeredModel(tiny.llama(), tiny.tokenizer(), profile), max_tokens=120)


def test_answers_are_objects_of_a_class(chat: ChatPasta) -> None:
    people = chat.with_structured_output(Person)
    found = people.invoke(MARKED)
    assert isinstance(found, Person)
    assert people.batch([MARKED, TEXT])[0] == found
    assert asyncio.run(people.ainvoke(MARKED)) == found
    hosted = chat.with_structured_output(Person, method="function_calling", strict=True)
    assert hosted.invoke(MARKED) == found
    assert [*people.stream(MARKED)][-1] == found
    drawn = [people.bind(temperature=2.0, seed=seed).invoke(MARKED) for seed in range(4)]
    assert len({person.name for person in drawn}) > 1


def test_answers_are_dicts_of_a_typed_dict_or_a_schema(chat: ChatPasta) -> None:
    kinds = chat.with_structured_output(Kind).invoke(MARKED)
    assert kinds in ({"kind": "mayor"}, {"kind": "miller"})
    schema = {"title": "Kind", "description": "What", **Person.model_json_schema()}
    found = chat.with_structured_output(schema, strict=True).invoke(MARKED)
    assert Person.model_validate(found)


def test_the_message_comes_too_if_it_is_wanted(chat: ChatPasta) -> None:
    found: Any = chat.with_structured_output(Person, include_raw=True).invoke(MARKED)
    assert found["parsing_error"] is None
    assert json.loads(found["raw"].content) == found["parsed"].model_dump(exclude_unset=True)
    cut: Any = ChatPasta(model=chat.model, max_tokens=2).with_structured_output(
        Person, include_raw=True
    )
    found = cut.invoke(MARKED)
    assert isinstance(found["parsing_error"], OutputParserException)
    assert found["parsed"] is None
    assert found["raw"].response_metadata["finish_reason"] == "length"


def test_json_mode_is_any_object(chat: ChatPasta) -> None:
    message: Any = chat.with_structured_output(Kind, method="json_mode", include_raw=True).invoke(
        MARKED
    )
    assert message["raw"].content.startswith("{")


def test_other_methods_and_arguments_are_refused(chat: ChatPasta) -> None:
    with pytest.raises(PromptError, match="method is 'guessing'"):
        chat.with_structured_output(Person, method="guessing")
    with pytest.raises(PromptError, match="no argument 'tools'"):
        chat.with_structured_output(Person, tools=[])
