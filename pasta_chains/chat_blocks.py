"""Chat messages from one template.

    {% chat role="system" %}Answer from the documents.{% endchat %}
    {% chat role="user" %}<% emphasize %>{{ fact }}<% endemphasize %> {{ question }}{% endchat %}

The blocks are written as LlamaIndex's `RichPromptTemplate` has them. Messages are collected beside
the text, so no variable can forge a role.
"""

from __future__ import annotations

from typing import Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context

from .chat import Message
from .errors import EmphasisError, PromptError
from .spans import SpanStr, span_count
from .template import Environment, loop_exits

_KEPT = "messages of the chat blocks"  # no name that a template could use
_FILTER = "message of a chat block"


class ChatBlocks(Extension):
    """Adds the `chat` block to an environment."""

    tags = {"chat"}

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        environment.filters[_FILTER] = _keep

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Parses a block into a filter block, whose filter keeps the text as a message."""
        line = next(parser.stream).lineno
        # Jinja tells nobody else in which blocks a tag stands.
        around = {"emphasize", "deemphasize", "filter", "chat"}.intersection(parser._tag_stack[:-1])
        if around:
            parser.fail(
                f"A chat block cannot stand inside a block of {around.pop()}, which is for the "
                "text of one message. Put that block into the chat block.",
                line,
            )
        if parser.stream.current.test("name:role") and parser.stream.look().type == "assign":
            parser.stream.skip(2)
        if parser.stream.current.type == "block_end":
            parser.fail('A chat block needs a role: {% chat role="user" %}.', line)
        role = parser.free_identifier(line)
        said = nodes.Assign(role, parser.parse_expression(), lineno=line)
        body = parser.parse_statements(("name:endchat",), drop_needle=True)
        for loop_exit in loop_exits(body):
            parser.fail(
                "A loop cannot be left inside a chat block: its message would be lost. Close the "
                "chat block first.",
                loop_exit.lineno,
            )
        keep = nodes.Filter(None, _FILTER, [role], [], None, None, lineno=line)
        return [said, nodes.FilterBlock(body, keep, lineno=line)]


def chat_block_environment(**options: Any) -> Environment:
    """An environment whose templates may have chat blocks.

    Args:
        **options: Those of `Environment`.
    """
    return Environment(**{**options, "extensions": [ChatBlocks, *options.get("extensions", ())]})


def has_chat_blocks(source: str) -> bool:
    """Whether the source of a template has chat blocks.

    Raises:
        jinja2.TemplateSyntaxError: It is no valid template.
    """
    parsed = chat_block_environment().parse(source)
    return any(found.name == _FILTER for found in parsed.find_all(nodes.Filter))


def render_messages(template: jinja2.Template, /, **variables: Any) -> list[Message]:
    """Render a template of an environment with `ChatBlocks` to chat messages.

    A template in which no chat block is reached is one message of the user's. The space around a
    message's text is left out.

    Raises:
        PromptError: There is text outside of chat blocks, which would be lost.
        EmphasisError, jinja2.TemplateError: As `render` does.
    """
    messages: list[Message] = []
    outside = SpanStr(template.render({**variables, _KEPT: messages}))
    if not messages:
        return [{"role": "user", "content": outside}]
    stray = outside.strip()
    if stray or outside.spans:
        raise PromptError(
            f"The template has text outside of its chat blocks, which no message would hold: "
            f"{(stray or outside).text[:80]!r}. Put it into a chat block."
        )
    return messages


@pass_context
def _keep(context: Context, text: Any, role: Any) -> str:
    messages = context.get(_KEPT)
    if messages is None:
        raise PromptError(
            "A chat block makes messages: render the template with render_messages. In a template "
            "that is imported or included, it needs its context: {% import … with context %}."
        )
    if not isinstance(role, str) or not role:
        raise PromptError(f"The role of a chat block is {role!r}; it must be a text.")
    content = SpanStr(text)
    if span_count(content.strip()) < span_count(content):
        raise EmphasisError("Text that is emphasized in a chat block is nothing but white space.")
    messages.append({"role": role, "content": content.strip()})
    return ""
