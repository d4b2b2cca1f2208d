"""From the emphasis of a request to that of its tokens, and to their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoTokenizer

from ..chat import Message
from ..errors import EmphasisError, PromptError, UnsupportedModelError
from ..prompts import check_chat_template_kwargs, tokenize
from ..spans import SpanStr
from ..tokens import Offset, token_log_weights
from ..wire import Emphasis, Mark, marked, token_marks
from .settings import Settings
from .weights import Weights


class Reader:
    """Reads prompts with emphasis as `SteeredModel` does, with the server's tokenizer.

    Args:
        settings: Of the server.
        tokenizer: A fast one.

    Raises:
        UnsupportedModelError: The tokenizer gives no character offsets.
    """

    def __init__(self, settings: Settings, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UnsupportedModelError(
                f"{type(tokenizer).__name__} gives no character offsets, which emphasis needs. Use "
                "the model's fast tokenizer."
            )
        self.settings = settings
        self.tokenizer = tokenizer

    @classmethod
    def of(cls, settings: Settings, model_config: Any, chat_template: str | None = None) -> Reader:
        """The reader of a server's model.

        Args:
            settings: Of the server.
            model_config: vLLM's.
            chat_template: Instead of the tokenizer's own.
        """
        tokenizer = AutoTokenizer.from_pretrained(
            model_config.tokenizer,
            revision=model_config.tokenizer_revision,
            trust_remote_code=model_config.trust_remote_code,
        )
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        return cls(settings, tokenizer)

    def of_text(
        self, emphasis: Emphasis, text: str, read: Sequence[int], *, add_special_tokens: bool = True
    ) -> Emphasis:
        """The emphasis of the tokens of a prompt that is one text.

        Args:
            emphasis: Its spans count characters or tokens.
            text: The prompt.
            read: Its tokens, as vLLM made them.
            add_special_tokens: Whether it added those of the tokenizer.

        Raises:
            EmphasisError: As for `of_tokens`, or a span covers no token.
            PromptError: vLLM made other tokens of the text.
        """
        encoded = self.tokenizer(
            text, add_special_tokens=add_special_tokens, return_offsets_mapping=True, verbose=False
        )
        whole: list[int] = encoded["input_ids"]
        if emphasis.unit == "tokens":
            return of_tokens(self.settings, emphasis, whole, read)
        _check(self.settings, emphasis, "spans")
        marks = token_marks(marked(text, emphasis.spans), encoded["offset_mapping"])
        return _cut(emphasis, marks, whole, read)

    def of_chat(
        self,
        emphasis: Emphasis,
        messages: Sequence[Message],
        text: str | None,
        given: Mapping[str, Any],
    ) -> tuple[list[int], Emphasis]:
        """The tokens of a chat and their emphasis; what messages hold cannot become control tokens.

        Args:
            emphasis: What holds for all of it.
            messages: With their emphasis.
            text: What vLLM makes of them with the chat template, if it is known.
            given: Arguments of the chat template.

        Raises:
            PromptError: The template refuses or drops emphasized messages, or vLLM renders
                another text.
            EmphasisError: A span covers no token.
        """
        _check(self.settings, emphasis, "messages")
        kwargs = check_chat_template_kwargs(given)
        prompt = tokenize(messages, self.tokenizer, 1.0, chat_template_kwargs=kwargs)
        if text is not None and prompt.text.text != text:
            raise PromptError(
                "The chat template renders another text in vLLM than here, so emphasis could be "
                "misplaced. Send the rendered prompt to /v1/completions, with its emphasis."
            )
        marks = token_marks(prompt.text, prompt.offsets)
        return prompt.ids, _cut(emphasis, marks, prompt.ids, prompt.ids)


def of_tokens(
    settings: Settings, emphasis: Emphasis, whole: Sequence[int], read: Sequence[int]
) -> Emphasis:
    """The emphasis of those tokens of a prompt that the model reads.

    Args:
        settings: Of the server.
        emphasis: Its spans count tokens.
        whole: All tokens of the prompt.
        read: Those that the model reads; vLLM may have cut some off.

    Raises:
        EmphasisError: A span is malformed, reaches beyond the prompt, or was cut off.
    """
    _check(settings, emphasis, "spans")
    return _cut(emphasis, token_marks(*_as_text(emphasis, len(whole))), whole, read)


def weights_of(settings: Settings, emphasis: Emphasis, count: int) -> Weights | None:
    """The weights of all tokens of a prompt; None if all are the same.

    Args:
        settings: Of the server.
        emphasis: Its spans count tokens.
        count: Number of tokens.

    Raises:
        EmphasisError: A span is malformed or reaches beyond the prompt, or alpha is out of range.
    """
    _check(settings, emphasis, "spans")
    alpha = settings.profile.alpha if emphasis.alpha is None else emphasis.alpha
    logs = token_log_weights(*_as_text(emphasis, count), alpha)
    return Weights.of(logs, settings.digest, shifted=settings.shifted)


def _as_text(emphasis: Emphasis, count: int) -> tuple[SpanStr, list[Offset]]:
    """Spans of tokens as spans of a text, of which each character stands for a token."""
    if any(end > count for _, end, *_ in emphasis.spans if isinstance(end, int)):
        raise EmphasisError(f"A span reaches beyond the prompt, which has {count} tokens.")
    return marked("-" * count, emphasis.spans), [(place, place + 1) for place in range(count)]


def _check(settings: Settings, emphasis: Emphasis, where: str) -> None:
    other = {"spans": "messages", "messages": "spans"}[where]
    if getattr(emphasis, other):
        kind = {"spans": "one prompt", "messages": "chat messages"}[where]
        raise EmphasisError(f"This request has {kind}: its emphasis is in {where}, not {other}.")
    if emphasis.profile not in (None, settings.digest):
        raise EmphasisError(
            f"The head profile {emphasis.profile} is unknown here; this server steers with "
            f"{settings.digest}. Connect again, or leave profile out to take what it has."
        )


def _cut(
    emphasis: Emphasis, marks: list[list[Any]], whole: Sequence[int], read: Sequence[int]
) -> Emphasis:
    """The emphasis of the tokens that are read, of which none may be cut off."""
    first = _place(whole, read)
    if any(start < first or end > first + len(read) for start, end, *_ in marks):
        raise EmphasisError(
            f"The prompt has {len(whole)} tokens and was cut to {len(read)}, and emphasized ones "
            "are among those that were cut off. Leave truncate_prompt_tokens out, or emphasize "
            "what stays."
        )
    spans = [[start - first, end - first, *rest] for start, end, *rest in marks]
    return emphasis.model_copy(update={"unit": "tokens", "spans": spans, "messages": {}})


def contents(messages: Sequence[Mapping[str, Any]]) -> dict[int, SpanStr]:
    """The texts of those chat messages that have emphasis in their blocks, by their numbers.

    Raises:
        EmphasisError: A span is malformed, or a block has emphasis and no text.
    """
    found: dict[int, SpanStr] = {}
    for number, message in enumerate(messages):
        blocks = message.get("content")
        if not isinstance(blocks, list) or not any(map(_marks, blocks)):
            continue
        texts = [_block_text(block, number) for block in blocks]
        found[number] = SpanStr("\n").join(texts)  # as vLLM joins them
    return found


def _marks(block: Any) -> list[Mark]:
    extras = block.get("extras") if isinstance(block, Mapping) else None
    marks = extras.get("emphasis") if isinstance(extras, Mapping) else None
    if marks and not (isinstance(marks, list) and all(isinstance(one, list) for one in marks)):
        raise EmphasisError(
            f"emphasis is {str(marks)[:80]}; it must be like [[0, 5], [9, 12, 0.1]]."
        )
    return marks or []


def _block_text(block: Any, number: int) -> SpanStr:
    text = block.get("text") if isinstance(block, Mapping) else block
    if not isinstance(text, str):
        raise EmphasisError(f"Message {number} has emphasis and a block that is not text.")
    return marked(text, _marks(block))


def _place(whole: Sequence[int], read: Sequence[int]) -> int:
    """Where the tokens that are read begin in the whole prompt.

    Raises:
        PromptError: They are no beginning and no end of it.
    """
    for first in (0, len(whole) - len(read)):
        if first >= 0 and list(whole[first : first + len(read)]) == list(read):
            return first
    if len(read) < len(whole):
        raise PromptError(
            f"vLLM cut this prompt of {len(whole)} tokens to {len(read)}, and not at one end only, "
            "so emphasis could be misplaced. Leave truncate_prompt_tokens out."
        )
    raise PromptError(
        "vLLM makes other tokens of this prompt than its tokenizer does, so emphasis could be "
        "misplaced. Send token ids, and spans of tokens."
    )
