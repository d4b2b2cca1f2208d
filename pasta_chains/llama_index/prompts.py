"""Prompts that carry their emphasis through LlamaIndex."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.types import BaseOutputParser
from markupsafe import soft_str
from pydantic import Field

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import SpanStr, span_count
from pasta_chains.template import Environment, template_source, template_variables


class EmphasisTextBlock(TextBlock):
    """The whole text of a chat message, with its emphasis.

    Attributes:
        spans: Emphasized ranges, each `{"start", "end", "alpha", "name", "deemphasized"}`.
    """

    spans: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def from_text(cls, text: SpanStr) -> EmphasisTextBlock:
        """Wrap a text with its emphasis."""
        return cls(**text.to_dict())

    def __setattr__(self, name: str, value: Any) -> None:
        # LlamaIndex's output parsers write a message's new text over the old one.
        if name == "text" and self.spans and not value.startswith(self.text):
            raise EmphasisError(
                "The text of an EmphasisTextBlock can only be added to, because its emphasis lies "
                "at fixed characters. Make a new block with EmphasisTextBlock.from_text(…)."
            )
        super().__setattr__(name, value)

    def to_text(self) -> SpanStr:
        """The text with its emphasis."""
        return SpanStr.from_dict({"text": self.text, "spans": self.spans})


class EmphasisPromptTemplate(BasePromptTemplate):
    """A prompt template in Jinja, in which `<% emphasize %>` marks what the model must read.

    Args:
        template: The Jinja source.
        **kwargs: Values for some of its variables.

    Raises:
        jinja2.TemplateSyntaxError: The source is no valid template.
    """

    template: str

    def __init__(self, template: str, **kwargs: Any) -> None:
        fields: dict[str, Any] = {
            name: kwargs.pop(name)
            for name in ("metadata", "output_parser", "template_var_mappings", "function_mappings")
            if name in kwargs
        }
        kwargs |= kwargs.pop("kwargs", {})
        fields |= {"template": template, "template_vars": template_variables(template)}
        super().__init__(kwargs=kwargs, **{"metadata": {}, "output_parser": None, **fields})

    @classmethod
    def from_file(cls, path: str | Path, **kwargs: Any) -> EmphasisPromptTemplate:
        """Make a template from a file, or from a shipped template such as `rag/qa.jinja`.

        Raises:
            jinja2.TemplateNotFound: There is no such file.
        """
        return cls(template_source(path), **kwargs)

    def partial_format(self, **kwargs: Any) -> EmphasisPromptTemplate:
        """A copy of this template that knows some of its variables."""
        partial = copy(self)
        partial.kwargs = {**self.kwargs, **kwargs}
        return partial

    def format(self, llm: Any = None, **kwargs: Any) -> SpanStr:
        """Render the prompt with its emphasis.

        Raises:
            EmphasisError: The output parser drops emphasis, or text to emphasize is empty.
        """
        for ignored in ("messages_to_prompt", "completion_to_prompt"):
            kwargs.pop(ignored, None)  # the model's own chat template does their work
        variables = self._map_all_vars({**self.kwargs, **kwargs})
        environment = Environment()
        if variables and all(value == "" for value in variables.values()):
            # PromptHelper measures a template by rendering it with nothing in it.
            for name in ("emphasize", "deemphasize"):
                environment.filters[name] = _sparing_empty_text(environment.filters[name])
        text = SpanStr(environment.from_string(self.template).render(**variables))
        if self.output_parser is not None:
            text = SpanStr(with_instructions(self.output_parser, text))
        return text

    def format_messages(self, llm: Any = None, **kwargs: Any) -> list[ChatMessage]:
        """Render the prompt as one user message."""
        block = EmphasisTextBlock.from_text(self.format(llm, **kwargs))
        return [ChatMessage(role=MessageRole.USER, blocks=[block])]

    def get_template(self, llm: Any = None) -> str:
        """The Jinja source."""
        return self.template


def with_instructions(parser: BaseOutputParser, text: str) -> str:
    """A prompt with the instructions of an output parser.

    Raises:
        EmphasisError: The parser drops the prompt's emphasis.
    """
    instructed = parser.format(text)
    if span_count(instructed) < span_count(text):
        raise EmphasisError(
            f"The output parser {type(parser).__name__} drops the prompt's emphasis. Let its "
            "format() add instructions with +, which keeps emphasis, or write them into the "
            "template and parse the answer yourself."
        )
    return instructed


def _sparing_empty_text(mark: Callable[..., str]) -> Callable[..., str]:
    @pass_context
    def mark_unless_empty(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        return mark(context, value, *args, **kwargs) if soft_str(value) else value

    return mark_unless_empty
