"""Prompt templates in Jinja, in which `<% emphasize %>` marks what the model must read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.messages.base import get_msg_title_repr
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import StringPromptTemplate
from langchain_core.prompts.message import BaseMessagePromptTemplate
from pydantic import Field, model_validator

from ..errors import PromptError
from ..spans import SpanStr
from ..template import Environment, template_source, template_variables
from .content import emphasized_content

_NAMESPACE = ["pasta_chains", "langchain"]
_MESSAGES: Mapping[str, type[SystemMessage | HumanMessage | AIMessage]] = {
    "system": SystemMessage,
    "human": HumanMessage,
    "user": HumanMessage,
    "ai": AIMessage,
    "assistant": AIMessage,
}


class EmphasisPromptValue(PromptValue):
    """A rendered prompt with its emphasis.

    Attributes:
        text: The characters.
        spans: Emphasized ranges, each `{"start", "end", "alpha", "name", "deemphasized"}`.
    """

    text: str
    spans: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def from_text(cls, text: SpanStr) -> Self:
        """Wrap a rendered prompt."""
        return cls(**text.to_dict())

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The module that LangChain imports this class from when it loads a saved value."""
        return _NAMESPACE

    def to_string(self) -> SpanStr:
        """The prompt with its emphasis."""
        return SpanStr.from_dict({"text": self.text, "spans": self.spans})

    def to_messages(self) -> list[BaseMessage]:
        """The prompt as one user message, its emphasis in the extras of its only text block."""
        return [HumanMessage(content=emphasized_content(self.to_string()))]


class EmphasisPromptTemplate(StringPromptTemplate):
    """A prompt template of one text.

    Attributes:
        template: The Jinja source.
    """

    template: str

    @model_validator(mode="before")
    @classmethod
    def _infer_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        source = values.get("template")
        if isinstance(source, str):  # anything else is refused by the field's own type
            partial = values.get("partial_variables") or {}
            needed = [name for name in template_variables(source) if name not in partial]
            values.setdefault("input_variables", needed)
        return values

    @classmethod
    def from_template(cls, template: str, **fields: Any) -> Self:
        """Make a template from Jinja source.

        Args:
            template: The source.
            **fields: Further fields, such as `partial_variables`.

        Raises:
            jinja2.TemplateSyntaxError: The source is no valid template.
        """
        return cls(template=template, **fields)

    @classmethod
    def from_file(cls, path: str | Path, **fields: Any) -> Self:
        """Make a template from a file, or from a shipped template such as `rag/qa.jinja`.

        Raises:
            jinja2.TemplateNotFound: There is no such file.
        """
        return cls(template=template_source(path), **fields)

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The module that LangChain imports this class from when it loads a saved template."""
        return _NAMESPACE

    def format(self, **kwargs: Any) -> SpanStr:
        """Render the prompt with its emphasis."""
        variables = self._merge_partial_and_user_variables(**kwargs)
        return SpanStr(Environment().from_string(self.template).render(**variables))

    async def aformat(self, **kwargs: Any) -> SpanStr:
        """Render the prompt with its emphasis."""
        return self.format(**kwargs)

    def format_prompt(self, **kwargs: Any) -> EmphasisPromptValue:
        """Render the prompt to what a chain passes on."""
        return EmphasisPromptValue.from_text(self.format(**kwargs))

    async def aformat_prompt(self, **kwargs: Any) -> EmphasisPromptValue:
        """Render the prompt to what a chain passes on."""
        return self.format_prompt(**kwargs)

    def pretty_repr(self, html: bool = False) -> str:
        """The source, in which the emphasis is visible."""
        return self.template

    def __add__(self, other: object) -> Self:
        """This template and another one after it, or a text in the same language.

        Raises:
            PromptError: Both fill in a variable, with different values.
        """
        if isinstance(other, str):
            other = self.from_template(other)
        if not isinstance(other, EmphasisPromptTemplate):
            return NotImplemented
        shared = self.partial_variables.keys() & other.partial_variables.keys()
        for name in sorted(shared):
            if self.partial_variables[name] != other.partial_variables[name]:
                raise PromptError(f"Both templates fill in {name!r}, with different values.")
        filled = {**self.partial_variables, **other.partial_variables}
        return self.from_template(self.template + other.template, partial_variables=filled)

    @property
    def _prompt_type(self) -> str:
        return "emphasis"


class EmphasisMessagePromptTemplate(BaseMessagePromptTemplate):
    """A template of one chat message, for `ChatPromptTemplate.from_messages`.

        ChatPromptTemplate.from_messages([
            EmphasisMessagePromptTemplate.from_template("system", "<% emphasize %>…<% … %>"),
            MessagesPlaceholder("history"),
            ("human", "{question}"),
        ])

    Attributes:
        role: "system", "human" (or "user"), "ai" (or "assistant"), or a role of one's own.
        prompt: The template of the text.
    """

    role: str
    prompt: EmphasisPromptTemplate

    @classmethod
    def from_template(cls, role: str, template: str, **fields: Any) -> Self:
        """Make a message template from Jinja source.

        Args:
            role: Who says it.
            template: The source.
            **fields: Further fields of the `EmphasisPromptTemplate`.

        Raises:
            jinja2.TemplateSyntaxError: The source is no valid template.
        """
        return cls(role=role, prompt=EmphasisPromptTemplate.from_template(template, **fields))

    @classmethod
    def from_file(cls, role: str, path: str | Path, **fields: Any) -> Self:
        """Make a message template from a file, or from a shipped template.

        Raises:
            jinja2.TemplateNotFound: There is no such file.
        """
        return cls(role=role, prompt=EmphasisPromptTemplate.from_file(path, **fields))

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The module that LangChain imports this class from when it loads a saved template."""
        return _NAMESPACE

    @property
    def input_variables(self) -> list[str]:
        """Names that the template needs."""
        return self.prompt.input_variables

    def format_messages(self, **kwargs: Any) -> list[BaseMessage]:
        """Render the message, its emphasis in the extras of its only text block."""
        needed = {name: kwargs[name] for name in self.input_variables if name in kwargs}
        content = emphasized_content(self.prompt.format(**needed))
        kind = _MESSAGES.get(self.role)
        if kind is None:
            return [ChatMessage(role=self.role, content=content)]
        return [kind(content=content)]

    async def aformat_messages(self, **kwargs: Any) -> list[BaseMessage]:
        """Render the message."""
        return self.format_messages(**kwargs)

    def pretty_repr(self, html: bool = False) -> str:
        """The source, in which the emphasis is visible, under the name of the role."""
        title = get_msg_title_repr(f"{self.role.title()} Message", bold=html)
        return f"{title}\n\n{self.prompt.pretty_repr(html)}"
