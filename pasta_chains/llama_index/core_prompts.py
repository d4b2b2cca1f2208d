"""LlamaIndex's own prompt templates, filled so that emphasis stays."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.generic_utils import (
    messages_to_prompt as default_messages_to_prompt,
)
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.prompts.base import (
    BasePromptTemplate,
    ChatPromptTemplate,
    PromptTemplate,
    SelectorPromptTemplate,
)

from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError
from pasta_chains.spans import SpanStr, span_count
from pasta_chains.substitute import sub

from .messages import block_text, messages_prompt, text_block, with_blocks, with_emphasis
from .prompts import EmphasisPromptTemplate, with_instructions

_VARIABLE = re.compile(r"\{([^{}]+)\}")  # as LlamaIndex's SafeFormatter finds them


def keeping_emphasis(template: BasePromptTemplate, llm: Any) -> BasePromptTemplate:
    """The template that a model gets, which keeps the emphasis of what it is filled with.

    Args:
        template: LlamaIndex's `PromptTemplate`, `ChatPromptTemplate` or a selector of these; any
            other is returned as it is.
        llm: The model.
    """
    if isinstance(template, SelectorPromptTemplate):
        template = template.select(llm)
    shared: dict[str, Any] = {
        "prompt_type": template.metadata.get("prompt_type", "custom"),
        "output_parser": template.output_parser,
        "metadata": dict(template.metadata),
        "template_var_mappings": template.template_var_mappings,
        "function_mappings": template.function_mappings,
    }
    if type(template) is PromptTemplate:
        return _KeepingPrompt(**{**template.kwargs, **shared, "template": template.template})
    if type(template) is ChatPromptTemplate:
        messages = template.message_templates
        return _KeepingChat(**{**template.kwargs, **shared, "message_templates": messages})
    return template


def keeps_emphasis(template: BasePromptTemplate) -> bool:
    """Whether a template keeps the emphasis of what it is filled with."""
    return isinstance(template, EmphasisPromptTemplate | _KeepingPrompt | _KeepingChat)


def warn_if_dropped(template: BasePromptTemplate, given: Mapping[str, Any], kept: int) -> None:
    """Tell of a template that loses emphasis of what it was filled with.

    Args:
        template: The template.
        given: What it was filled with.
        kept: Number of spans in what came of it.
    """
    spans = sum(span_count(value) for value in given.values() if isinstance(value, str))
    if kept < spans:
        warnings.warn(
            f"A {type(template).__name__} drops emphasis. Make it an EmphasisPromptTemplate.",
            EmphasisDroppedWarning,
            stacklevel=3,
        )


class _KeepingPrompt(PromptTemplate):
    """A `PromptTemplate` whose text keeps emphasis."""

    def format(
        self,
        llm: Any = None,
        completion_to_prompt: Callable[[str], str] | None = None,
        **kwargs: Any,
    ) -> str:
        kwargs.pop("messages_to_prompt", None)
        values = self._map_all_vars({**self.kwargs, **kwargs})
        text: str = _filled(self.template, values)
        if self.output_parser is not None:
            text = with_instructions(self.output_parser, text)
        return text if completion_to_prompt is None else completion_to_prompt(text)

    def format_messages(self, llm: Any = None, **kwargs: Any) -> list[ChatMessage]:
        text = self.format(**kwargs)
        return [ChatMessage(role="user", blocks=[text_block(text)])]


class _KeepingChat(ChatPromptTemplate):
    """A `ChatPromptTemplate` whose messages keep emphasis."""

    def format(
        self,
        llm: Any = None,
        messages_to_prompt: Callable[[Sequence[ChatMessage]], str] | None = None,
        **kwargs: Any,
    ) -> str:
        kwargs.pop("completion_to_prompt", None)
        messages = self.format_messages(llm, **kwargs)
        text = messages_prompt(messages)
        if messages_to_prompt in (None, default_messages_to_prompt):
            return text
        written = messages_to_prompt(messages)
        if span_count(written) < span_count(text):
            raise EmphasisError(
                "The messages_to_prompt of the model drops emphasis. Leave it out, or use "
                "PastaLLM(use_chat_template=True)."
            )
        return written

    def format_messages(self, llm: Any = None, **kwargs: Any) -> list[ChatMessage]:
        values = self._map_all_vars({**self.kwargs, **kwargs})
        messages = [
            with_blocks(message, _filled_blocks(message.blocks, values))
            for message in map(with_emphasis, self.message_templates)
        ]
        if self.output_parser is not None:
            messages = self.output_parser.format_messages(messages)
        return messages


def _filled_blocks(blocks: Sequence[Any], values: dict[str, Any]) -> list[Any]:
    return [
        text_block(_filled(block_text(block), values)) if isinstance(block, TextBlock) else block
        for block in blocks
    ]


def _filled(template: str, values: dict[str, Any]) -> SpanStr:
    def value(found: re.Match[str]) -> str:
        given = values.get(found[1], found[0])
        return given if isinstance(given, str) else str(given)

    return sub(_VARIABLE, value, SpanStr(template))
