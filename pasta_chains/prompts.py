"""What a caller may pass as a prompt, and how it becomes text, tokens and bias."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import (
    DocstringParsingException,
    TypeHintParsingException,
    get_json_schema,
)

from .chat import Message, Range, RenderedChat, is_chat, render_chat
from .context import Room
from .control import Encoded
from .errors import PromptError, PromptTooLongError
from .overflow import Dropped, droppable, emphasized, fewest, guessed, without
from .spans import SpanStr
from .tokens import Offset, token_bias
from .untrusted import ControlTokens, check_control_tokens, control_ranges, encode

_NONE: Mapping[str, Any] = {}
_TAKEN = {"messages", *inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters}
_TAKEN -= {"tools", "documents"}

Prompt: TypeAlias = str | Sequence[Message]
"""One prompt: a text with or without emphasis, or a list of chat messages."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as the model reads it.

    Attributes:
        text: The whole text, chat template included, with its emphasis.
        ids: Its token ids.
        bias: One number <= 0 per token; all 0 when nothing is emphasized.
        dropped: What was left out of the prompt to make it fit.
        dropped_tokens: By how many tokens that made it shorter.
        offsets: For each token the half-open range of characters that it stands for.
    """

    text: SpanStr
    ids: list[int]
    bias: list[float]
    dropped: tuple[Dropped, ...] = ()
    dropped_tokens: int = 0
    offsets: Sequence[Offset] = ()

    @property
    def is_steered(self) -> bool:
        """Whether any token is read differently from the others."""
        return any(self.bias)


def as_list(prompts: Prompt | Sequence[Prompt]) -> tuple[list[Prompt], bool]:
    """Tell one prompt from a list of prompts.

    Returns:
        The prompts, and whether a list was given.

    Raises:
        PromptError: What was given is neither.
    """
    if isinstance(prompts, str) or is_chat(prompts):
        return [prompts], False  # type: ignore[list-item]  # is_chat says that it is one prompt
    if isinstance(prompts, Mapping) or not isinstance(prompts, Sequence):
        raise PromptError(
            f"A prompt is a text or a list of chat messages, not {type(prompts).__name__}."
        )
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, str) and not is_chat(prompt):
            raise PromptError(
                f"Prompt {number} of the list is {prompt!r}; it must be a text or a list of chat "
                "messages such as {'role': 'user', 'content': '…'}."
            )
    return list(prompts), True  # type: ignore[arg-type]  # checked above


def prompt_text(
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any] = _NONE,
) -> SpanStr:
    """Render a prompt to the text that the model reads.

    Raises:
        PromptError: It is neither text nor chat messages; or the model has no chat template, or
            the template renders another text here than in transformers.
    """
    return _rendered(prompt, tokenizer, chat_template_kwargs).text


def check_chat_template_kwargs(given: object) -> dict[str, Any]:
    """Returns the arguments of a chat template; None is none.

    Raises:
        PromptError: They are no mapping, say what is not theirs to say, or hold a malformed tool.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise PromptError(f"chat_template_kwargs is {given!r}; it must be a mapping.")
    for name in given:
        if not isinstance(name, str) or name in _TAKEN:
            raise PromptError(f"chat_template_kwargs cannot set {name!r}.")
    found = dict(given)
    for name in ("tools", "documents"):
        listed = found.get(name)
        if listed is not None and (isinstance(listed, str) or not isinstance(listed, Sequence)):
            raise PromptError(f"{name} of the chat template is {listed!r}; it must be a list.")
    if found.get("tools") is not None:
        found["tools"] = [*map(_tool_schema, found["tools"])]
    for document in found.get("documents") or ():
        if not isinstance(document, Mapping):
            raise PromptError(f"{document!r} is no document; it must be a mapping, as of its text.")
    return found


def _tool_schema(tool: Any) -> Mapping[str, Any]:
    if callable(tool):
        try:
            schema: Mapping[str, Any] = get_json_schema(tool)
        except (DocstringParsingException, TypeHintParsingException, AttributeError) as error:
            raise PromptError(f"The function {tool!r} cannot be a tool: {error}") from error
        return schema
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(tool, Mapping) or not isinstance(function, Mapping) or "name" not in function:
        raise PromptError(
            f"{tool!r} is no tool; it must be a function, or a schema such as "
            "{'type': 'function', 'function': {'name': …, 'description': …, 'parameters': …}}."
        )
    return tool


def _rendered(
    prompt: Prompt, tokenizer: PreTrainedTokenizerBase, given: Mapping[str, Any]
) -> RenderedChat:
    if isinstance(prompt, str):
        if given:
            raise PromptError(
                f"{next(iter(given))} is for a chat template, but the prompt is one text, which "
                "goes through none. Pass chat messages."
            )
        return RenderedChat(prompt if isinstance(prompt, SpanStr) else SpanStr(prompt))
    if not is_chat(prompt):
        raise PromptError(f"A prompt is a text or a list of chat messages, not {prompt!r}.")
    if not tokenizer.chat_template:
        raise PromptError(
            "The model's tokenizer has no chat template, so it takes no chat messages. Pass the "
            "prompt as one text, or set tokenizer.chat_template."
        )
    try:
        template = tokenizer.get_chat_template(tools=given.get("tools"))
    except ValueError as error:  # several, and none is the default
        raise PromptError(str(error)) from error
    variables: dict[str, Any] = {"documents": None, **tokenizer.special_tokens_map, **given}
    rendered = render_chat(prompt, template, **variables)
    if given.get("tools"):
        _check_shows_tools(rendered, render_chat(prompt, template, **{**variables, "tools": None}))
    plain = [{**message, "content": SpanStr(message["content"]).text} for message in prompt]
    given = {name: _bare(value) for name, value in given.items()}
    official = tokenizer.apply_chat_template(
        plain, tokenize=False, add_generation_prompt=True, **given
    )
    if rendered.text.text != official:
        raise PromptError(
            "The model's chat template renders another text here than in transformers, so emphasis "
            "could be misplaced. Render the prompt yourself and pass it as one text."
        )
    return rendered


def _bare(value: Any) -> Any:
    """A value for a chat template without emphasis, of which transformers knows nothing."""
    if isinstance(value, SpanStr):
        return value.text
    if isinstance(value, Mapping):
        return {key: _bare(item) for key, item in value.items()}
    return [_bare(item) for item in value] if isinstance(value, list | tuple) else value


def _check_shows_tools(rendered: RenderedChat, without: RenderedChat) -> None:
    if rendered.text.text == without.text.text:
        raise PromptError(
            "The model's chat template does not show tools, so the model cannot know of them. Use "
            "a model whose template takes tools, or describe them in a message."
        )


def tokenize(
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    alpha: float,
    control_tokens: ControlTokens = "template",
    chat_template_kwargs: Mapping[str, Any] = _NONE,
) -> TokenizedPrompt:
    """Tokenize a prompt, once, and give each token its bias.

    Args:
        prompt: A text, to which the tokenizer adds its special tokens, or chat messages, whose
            template brings them.
        tokenizer: A fast tokenizer.
        alpha: For spans that have none of their own.
        control_tokens: Which text may become the tokenizer's control tokens.
        chat_template_kwargs: From `check_chat_template_kwargs`.

    Raises:
        PromptError: The prompt is empty or malformed, or has control tokens that cannot be kept
            text.
        EmphasisError: A span covers no token.
    """
    text, encoded = _encode(prompt, tokenizer, control_tokens, chat_template_kwargs)
    bias = token_bias(text, encoded.offsets, alpha)
    return TokenizedPrompt(text, encoded.ids, bias, offsets=encoded.offsets)


def tokenize_to_fit(
    prompt: Prompt,
    room: Room,
    tokenizer: PreTrainedTokenizerBase,
    alpha: float,
    control_tokens: ControlTokens = "template",
    chat_template_kwargs: Mapping[str, Any] = _NONE,
) -> TokenizedPrompt:
    """Tokenize a prompt, without some of its plain text where that is too long.

    Raises:
        PromptTooLongError: What cannot be dropped is too long as well.
        PastaError: As `tokenize` does.
    """

    def shortened(count: int) -> TokenizedPrompt:
        shorter, dropped = without(prompt, pieces[:count])
        found = tokenize(shorter, tokenizer, alpha, control_tokens, chat_template_kwargs)
        saved = len(whole.ids) - len(found.ids)
        return replace(found, dropped=dropped, dropped_tokens=saved)

    def attempt(count: int) -> TokenizedPrompt | None:
        found = shortened(count)
        return found if len(found.ids) <= room.wanted else None

    whole = tokenize(prompt, tokenizer, alpha, control_tokens, chat_template_kwargs)
    too_many = len(whole.ids) - room.wanted
    if too_many <= 0:
        return whole
    # A text prompt may be a chat that the application wrote out: its markers stay.
    is_read = isinstance(prompt, str) and control_tokens != "nowhere"
    pieces = droppable(prompt, _markers(whole, tokenizer) if is_read else ())
    least = shortened(len(pieces))
    if len(least.ids) > room.most:
        raise _too_long(
            *_encode(without(prompt, pieces)[0], tokenizer, control_tokens, chat_template_kwargs),
            room,
        )
    if len(least.ids) > room.wanted:
        return least
    guess = guessed(pieces, too_many * len(whole.text) / len(whole.ids))
    return fewest(len(pieces), attempt, least, guess)


def _encode(
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    control_tokens: ControlTokens,
    chat_template_kwargs: Mapping[str, Any] = _NONE,
) -> tuple[SpanStr, Encoded]:
    check_control_tokens(control_tokens)
    rendered = _rendered(prompt, tokenizer, chat_template_kwargs)
    is_text = isinstance(prompt, str)
    if control_tokens == "anywhere":
        rendered = RenderedChat(rendered.text)
    elif is_text and control_tokens == "nowhere":
        rendered = RenderedChat(rendered.text, messages=((0, len(rendered.text)),))
    encoded = encode(rendered, tokenizer, add_special_tokens=is_text)
    if not encoded.ids:
        raise PromptError("The prompt is empty: it has no token for the model to read.")
    return rendered.text, encoded


def _markers(prompt: TokenizedPrompt, tokenizer: PreTrainedTokenizerBase) -> list[Range]:
    encoded = Encoded(prompt.ids, list(prompt.offsets))
    return control_ranges(prompt.text.text, encoded, tokenizer)


def _too_long(text: SpanStr, encoded: Encoded, room: Room) -> PromptTooLongError:
    """What to say of a prompt that is too long although all its plain text was dropped."""
    stays = emphasized(text)
    needed = sum(1 for start, end in encoded.offsets if start < end and stays.touch(start, end))
    return PromptTooLongError(
        f"Even without its plain text the prompt has {len(encoded.ids)} tokens, and there is room "
        f"for {max(room.most, 0)}. Its emphasized text needs {needed} of them; the others "
        "hold it together (control tokens, the chat template, line breaks). Emphasize less text, "
        "or lower max_new_tokens."
    )
