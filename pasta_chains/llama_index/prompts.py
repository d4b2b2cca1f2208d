"""Prompts that carry their emphasis through LlamaIndex."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.types import BaseOutputParser
from markupsafe import soft_str

from pasta_chains.chat_blocks import chat_block_environment, has_chat_blocks, render_messages
from pasta_chains.errors import EmphasisError, PromptError
from pasta_chains.spans import SpanStr, span_count
from pasta_chains.template import template_source, template_variables

from .messages import message_text, messages_prompt, text_block


class EmphasisPromptTemplate(BasePromptTemplate):
    """A prompt template in Jinja, in which `<% emphasize %>` marks what the model must read.

    `{% chat role="system" %}…{% endchat %}` makes a message of its own, as in LlamaIndex's
    `RichPromptTemplate`; a template without such blocks is one message of the user's.

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
        kwargs.pop("template_vars", None)  # of a template that was dumped
        kwargs |= kwargs.pop("kwargs", {})
        fields |= {
            "template": template,
            "template_vars": template_variables(template, chat_block_environment()),
        }
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

        Messages become lines such as `user: …`, as LlamaIndex writes them for models without chat.

        Raises:
            EmphasisError: The output parser drops emphasis, or text to emphasize is empty.
            PromptError: There is text outside of chat blocks.
        """
        messages = self.format_messages(llm, **kwargs)
        return messages_prompt(messages) if self._is_chat else message_text(messages[0])

    def format_messages(self, llm: Any = None, **kwargs: Any) -> list[ChatMessage]:
        """Render the prompt as chat messages.

        Raises:
            EmphasisError, PromptError: As `format` does.
        """
        return [
            ChatMessage(role=message["role"], blocks=[text_block(message["content"])])
            for message in self._messages(kwargs)
        ]

    def _messages(self, kwargs: dict[str, Any]) -> list[dict[str, Any]]:
        for ignored in ("messages_to_prompt", "completion_to_prompt"):
            kwargs.pop(ignored, None)  # the model's own chat template does their work
        variables = self._map_all_vars({**self.kwargs, **kwargs})
        environment = chat_block_environment()
        asked = [value for name, value in kwargs.items() if name not in self.kwargs]
        if asked and all(value == "" for value in asked):
            # PromptHelper measures a template by rendering it with nothing in it.
            for name in ("emphasize", "deemphasize"):
                environment.filters[name] = _sparing_empty_text(environment.filters[name])
        template = environment.from_string(self.template)
        messages = [dict(message) for message in render_messages(template, **variables)]
        for message in messages:
            if message["role"] not in {role.value for role in MessageRole}:
                known = ", ".join(role.value for role in MessageRole)
                raise PromptError(f"No message has the role {message['role']!r}; it is {known}.")
        if self.output_parser is not None:
            # LlamaIndex's parsers instruct the system, or else whoever spoke last.
            told = messages[0 if messages[0]["role"] == "system" else -1]
            told["content"] = SpanStr(with_instructions(self.output_parser, told["content"]))
        return messages

    @property
    def _is_chat(self) -> bool:
        return has_chat_blocks(self.template)

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
