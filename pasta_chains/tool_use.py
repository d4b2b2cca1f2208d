"""The tools of one call to a model: which it may call, and which it must."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from transformers import PreTrainedTokenizerBase

from .errors import PromptError
from .prompts import Prompt, prompt_text
from .tool_calls import ToolReader
from .tool_formats import ToolFormat, tool_format

Schema: TypeAlias = Mapping[str, Any]

_ARGUMENTS = ("tools", "tool_choice", "parallel_tool_calls")
_ANY = ("any", "required", True)


@dataclass(frozen=True)
class ToolUse:
    """The tools of one call to a model.

    Attributes:
        tools: Their schemas.
        format: How the model calls them.
        arguments: Those of `SteeredModel.run` that make it do so.
    """

    tools: Sequence[Schema]
    format: ToolFormat
    arguments: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        tools: Sequence[Schema],
        given: Mapping[str, Any],
    ) -> Self | None:
        """What a call with tools is asked with; None if it shows the model none.

        Args:
            tokenizer: The model's.
            tools: Their schemas, `{"type": "function", "function": {…}}`.
            given: The call's other arguments, of which it reads `tool_choice`,
                `parallel_tool_calls`, `structure` and `chat_template_kwargs`.

        Raises:
            PromptError: There is no such tool, the model cannot call tools, or an answer would have
                two forms.
        """
        choice = name_of(given.get("tool_choice"))
        forced = forced_tools(tools, choice)
        if not forced and given.get("parallel_tool_calls") is not None:
            raise PromptError(
                "parallel_tool_calls is for answers that must call a tool: set tool_choice to "
                "'any' or to the name of a tool, too. Other answers call as many as the model "
                "likes."
            )
        if not tools or choice == "none":
            return None
        used = tool_format(tokenizer)
        shown = {**(given.get("chat_template_kwargs") or {}), "tools": [*tools]}
        kept = used.special_tokens(tokenizer)
        arguments: dict[str, Any] = {"chat_template_kwargs": shown, "special_tokens": kept}
        if forced:
            if given.get("structure") is not None:
                raise PromptError(
                    "An answer cannot both call a tool and have a structure. Leave tool_choice or "
                    "structure out."
                )
            several = bool(given.get("parallel_tool_calls"))
            arguments["structure"] = used.structure(forced, tokenizer, several=several)
        return cls(tools, used, arguments)

    def reader(self, prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> ToolReader:
        """What tells text from calls in one answer to a prompt."""
        read = prompt_text(prompt, tokenizer, self.arguments["chat_template_kwargs"])
        return ToolReader(self.format, self.tools, read.text)


def name_of(choice: Any) -> Any:
    """A tool's name, or a word, in any of the ways in which models are told to call a tool."""
    if not isinstance(choice, Mapping):
        return choice
    function = choice.get("function")
    inside = function if isinstance(function, Mapping) else choice
    return inside.get("name", choice.get("type"))


def forced_tools(schemas: Sequence[Schema], choice: Any) -> Sequence[Schema]:
    """The tools of which one must be called; none if the model may choose.

    Raises:
        PromptError: There is no such tool.
    """
    choice = name_of(choice)
    if choice in (None, "auto", "none", False):
        return []
    if not schemas:
        raise PromptError(f"tool_choice is {choice!r}, but there is no tool.")
    if choice in _ANY:
        return schemas
    found = [schema for schema in schemas if schema["function"]["name"] == choice]
    if not found:
        names = ", ".join(repr(schema["function"]["name"]) for schema in schemas)
        raise PromptError(
            f"tool_choice is {choice!r}, and there is no such tool. It is 'auto', 'any', 'none' or "
            f"one of {names}."
        )
    return found


def without_tools(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that are not about tools."""
    return {name: value for name, value in given.items() if name not in _ARGUMENTS}
