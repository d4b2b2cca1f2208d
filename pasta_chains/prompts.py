"""What a caller may pass as a prompt, and how it becomes text, tokens and bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerBase

from .chat import Message, is_chat, render_chat
from .errors import PromptError
from .spans import SpanStr
from .tokens import token_bias

Prompt: TypeAlias = str | Sequence[Message]
"""One prompt: a text with or without emphasis, or a list of chat messages."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as the model reads it.

    Attributes:
        text: The whole text, chat template included, with its emphasis.
        ids: Its token ids.
        bias: One number <= 0 per token; all 0 when nothing is emphasized.
    """

    text: SpanStr
    ids: list[int]
    bias: list[float]

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


def prompt_text(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> SpanStr:
    """Render a prompt to the text that the model reads.

    Raises:
        PromptError: It is neither text nor chat messages; or the model has no chat template, or
            the template renders another text here than in transformers.
    """
    if isinstance(prompt, str):
        return prompt if isinstance(prompt, SpanStr) else SpanStr(prompt)
    if not is_chat(prompt):
        raise PromptError(f"A prompt is a text or a list of chat messages, not {prompt!r}.")
    if not tokenizer.chat_template:
        raise PromptError(
            "The model's tokenizer has no chat template, so it takes no chat messages. Pass the "
            "prompt as one text, or set tokenizer.chat_template."
        )
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # several, and none is the default
        raise PromptError(str(error)) from error
    variables: dict[str, Any] = {"tools": None, "documents": None, **tokenizer.special_tokens_map}
    text = render_chat(prompt, template, **variables)
    plain = [{**message, "content": SpanStr(message["content"]).text} for message in prompt]
    official = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    if text.text != official:
        raise PromptError(
            "The model's chat template renders another text here than in transformers, so emphasis "
            "could be misplaced. Render the prompt yourself and pass it as one text."
        )
    return text


def tokenize(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, alpha: float) -> TokenizedPrompt:
    """Tokenize a prompt, once, and give each token its bias.

    Args:
        prompt: A text, to which the tokenizer adds its special tokens, or chat messages, whose
            template brings them.
        tokenizer: A fast tokenizer.
        alpha: For spans that have none of their own.

    Raises:
        PromptError: The prompt is empty or malformed.
        EmphasisError: A span covers no token.
    """
    text = prompt_text(prompt, tokenizer)
    encoded: Any = tokenizer(
        text.text,
        add_special_tokens=isinstance(prompt, str),
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    if not encoded["input_ids"]:
        raise PromptError("The prompt is empty: it has no token for the model to read.")
    bias = token_bias(text, encoded["offset_mapping"], alpha)
    return TokenizedPrompt(text, encoded["input_ids"], bias)
