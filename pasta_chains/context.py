"""How much a model can read and write together, and what that leaves for a prompt."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import PromptTooLongError
from .overflow import Overflow, check_overflow

DEFAULT_NEW_TOKENS = 256
"""Longest answer where none is asked for."""


@dataclass(frozen=True)
class Room:
    """How long a prompt may be.

    Attributes:
        wanted: Most tokens that leave an answer of the length that is wanted.
        most: Most tokens that leave an answer at all.
    """

    wanted: int
    most: int


@dataclass(frozen=True)
class Context:
    """What a model can read and write together.

    Attributes:
        length: Most tokens of prompt and answer; None when unlimited.
        model: Name of the model, for messages.
    """

    length: int | None
    model: str = ""

    def room_for_prompt(self, answer: int | None, overflow: Overflow) -> Room | None:
        """The room that an answer leaves for a prompt; None when nothing is to be dropped for it.

        Args:
            answer: Its longest length. None asks for the default or a quarter of the context,
                whichever is less, where plain text can be dropped for it.
            overflow: What to do with a prompt that is too long.

        Raises:
            PromptError: There is no such way to make a prompt fit.
        """
        check_overflow(overflow)
        if overflow == "error" or self.length is None:
            return None
        if answer is not None:
            return Room(self.length - answer, self.length - answer)
        wanted = min(DEFAULT_NEW_TOKENS, max(self.length // 4, 1))
        return Room(self.length - wanted, self.length - 1)

    def room_for_answer(self, prompt: int, wanted: int | None) -> int:
        """Number of tokens to write after a prompt.

        Args:
            prompt: Its number of tokens.
            wanted: Longest answer that was asked for, if any was.

        Raises:
            PromptTooLongError: They do not fit.
        """
        self.check_fits(prompt, 1 if wanted is None else wanted)
        if wanted is not None:
            return wanted
        return (
            DEFAULT_NEW_TOKENS
            if self.length is None
            else min(DEFAULT_NEW_TOKENS, self.length - prompt)
        )

    def check_fits(self, prompt: int, answer: int) -> None:
        """Refuse a prompt that is too long.

        Raises:
            PromptTooLongError: Prompt and answer have more tokens than the context.
        """
        if self.length is not None and prompt + answer > self.length:
            raise PromptTooLongError(
                f"The prompt has {prompt} tokens and the answer may have {answer}, but the "
                f"context of {self.model or 'the model'} is {self.length} tokens. Shorten the "
                "prompt, retrieve fewer documents, or lower max_new_tokens."
            )
