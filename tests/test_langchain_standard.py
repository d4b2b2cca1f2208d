"""LangChain's own standard tests of chat models, on `ChatPasta` with the embedded model."""

from __future__ import annotations

from functools import cache
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.langchain import ChatPasta


@cache
def embedded() -> SteeredModel:
    return SteeredModel.from_pretrained(MODEL)


class _Standard:
    """What both suites are told. All that is off says why."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatPasta

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": embedded()}

    # The embedded model has never seen a tool, and its chat template shows none. ChatPasta's own
    # tests of tools (test_langchain_tools.py) run on a random model with a template that does.
    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_tool_choice(self) -> bool:
        return False

    # The embedded model has never seen JSON, but can write nothing else: the form is certain.
    @property
    def has_structured_output(self) -> bool:
        return True

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "json_schema"}

    # In this mode the answer is certain to be JSON, but its fields are named in the prompt alone,
    # which a model that has never seen JSON cannot follow.
    @property
    def supports_json_mode(self) -> bool:
        return False


class TestUnits(_Standard, ChatModelUnitTests):
    pass


class TestIntegration(_Standard, ChatModelIntegrationTests):
    pass
