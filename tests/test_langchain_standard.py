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

    # ChatPasta has no tools yet.
    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_tool_choice(self) -> bool:
        return False

    # The form is certain (test_langchain_structured.py), but the suite's schemas let a text be of
    # any length, and the embedded model, which has never seen JSON, ends none before its tokens do.
    @property
    def has_structured_output(self) -> bool:
        return False


class TestUnits(_Standard, ChatModelUnitTests):
    pass


class TestIntegration(_Standard, ChatModelIntegrationTests):
    pass
