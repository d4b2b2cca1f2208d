"""Answers of a chat model as objects of a schema."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.output_parsers import (
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass

from ..errors import PromptError
from ..structured import Structure, closed

# Code for hosted models asks for "function_calling", which is a way to JSON of a schema.
_METHODS = ("json_schema", "function_calling", "json_mode")


def structured_output(
    model: BaseChatModel, schema: Any, *, include_raw: bool, method: str
) -> Runnable[LanguageModelInput, Any]:
    """A model whose answers are objects of a schema, since it can write nothing else.

    Args:
        model: The model.
        schema: A pydantic class, a TypedDict class, or a JSON schema with a title.
        include_raw: Return the message, too, and an error instead of raising it.
        method: "json_schema", for which "function_calling" is another name here; or "json_mode" for
            any JSON object, whatever the schema.

    Raises:
        PromptError: There is no such method, or the schema says what cannot be enforced.
    """
    if method not in _METHODS:
        raise PromptError(
            f"method is {method!r}; it must be 'json_schema', which makes sure of the form, or "
            "'json_mode'."
        )
    described = convert_to_json_schema(schema)
    is_model = isinstance(schema, type) and is_basemodel_subclass(schema)
    parser: BaseOutputParser[Any] = (
        PydanticOutputParser(pydantic_object=schema) if is_model else JsonOutputParser()
    )
    writing = model.bind(
        structure=Structure.json(None if method == "json_mode" else closed(described)),
        ls_structured_output_format={"kwargs": {"method": method}, "schema": described},
    )
    if not include_raw:
        return writing | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=writing) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def asked_structure(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call in which `response_format`, as hosted models take it, is a structure.

    Raises:
        PromptError: There is no such format, or it says what cannot be enforced.
    """
    rest = dict(given)
    wanted = rest.pop("response_format", None)
    match wanted:
        case None | {"type": "text"}:
            return rest
        case {"type": "json_object"}:
            structure = Structure.json()
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            structure = Structure.json(closed(schema))
        case _:
            raise PromptError(
                f"response_format is {wanted!r}; it must be {{'type': 'json_schema', "
                "'json_schema': {'schema': …}}, {'type': 'json_object'} or {'type': 'text'}."
            )
    return {**rest, "structure": structure}
