"""Prompts that carry their emphasis through LlamaIndex."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.prompts.base import BasePromptTemplate
from pydantic import Field

from pasta_chains.spans import Span, SpanStr
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

    def to_text(self) -> SpanStr:
        """The text with its emphasis."""
        return SpanStr(self.text, [Span(**span) for span in self.spans])


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
        """Render the prompt with its emphasis."""
        for ignored in ("messages_to_prompt", "completion_to_prompt"):
            kwargs.pop(ignored, None)  # the model's own chat template does their work
        variables = self._map_all_vars({**self.kwargs, **kwargs})
        environment = Environment()
        if variables and all(value == "" for value in variables.values()):
            # PromptHelper measures a template by rendering it with nothing in it.
            environment.filters["emphasize"] = environment.filters["deemphasize"] = _unmarked
        text = SpanStr(environment.from_string(self.template).render(**variables))
        return text if self.output_parser is None else SpanStr(self.output_parser.format(text))

    def format_messages(self, llm: Any = None, **kwargs: Any) -> list[ChatMessage]:
        """Render the prompt as one user message."""
        block = EmphasisTextBlock.from_text(self.format(llm, **kwargs))
        return [ChatMessage(role=MessageRole.USER, blocks=[block])]

    def get_template(self, llm: Any = None) -> str:
        """The Jinja source."""
        return self.template


def _unmarked(text: str, *_: Any, **__: Any) -> str:
    return text
