"""Which of several texts a model finds likeliest after a prompt, by their first tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..errors import TaskError
from ..prompts import TokenizedPrompt
from ..scoring import continued

NextLogits = Callable[[Sequence[TokenizedPrompt]], Tensor]
"""From prompts to the logits of the token after each, of shape (prompts, vocabulary)."""

_WORD = "a"


def options_after(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TokenizedPrompt],
    options: Sequence[Sequence[str]],
) -> list[list[list[int]]]:
    """For each prompt the tokens of its options as they would stand after it.

    Raises:
        TaskError: As `option_tokens` does.
    """
    known: dict[tuple[tuple[str, ...], bool], list[list[int]]] = {}
    found = []
    for prompt, some in zip(prompts, options, strict=True):
        key = tuple(some), prompt.text.text[-1:].isspace()
        if key not in known:
            known[key] = option_tokens(tokenizer, some, after_space=key[1])
        found.append(known[key])
    return found


def option_tokens(
    tokenizer: PreTrainedTokenizerBase, options: Sequence[str], *, after_space: bool = False
) -> list[list[int]]:
    """The tokens of each option as it stands after a word and a space.

    By themselves many tokenizers would begin a text otherwise than after another one, and some
    with a token for the space alone.

    Args:
        tokenizer: The model's.
        options: The texts. White space around them does not count.
        after_space: The prompt ends with white space, as many chat templates do, so that the option
            begins without one.

    Raises:
        TaskError: An option has no token of its own, or two have the same, so nothing tells them
            apart.
    """
    text, space = (f"{_WORD}\n", "") if after_space else (_WORD, " ")
    before: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    found: list[list[int]] = []
    for option in options:
        ids = tokenizer(f"{text}{space}{option.strip()}", add_special_tokens=False)["input_ids"]
        if ids[: len(before)] != before or len(ids) == len(before):
            raise TaskError(
                f"The tokenizer joins the option {option!r} with the word before it, so its first "
                "token cannot be told."
            )
        found.append(ids[len(before) :])
        if found[-1] in found[:-1]:
            twin = options[found.index(found[-1])]
            raise TaskError(
                f"The tokenizer writes the options {twin!r} and {option!r} with the same tokens, "
                "so no model can choose between them."
            )
    return found


def choose(
    prompts: Sequence[TokenizedPrompt],
    options: Sequence[Sequence[list[int]]],
    next_logits: NextLogits,
) -> list[int]:
    """The number of the likeliest option after each prompt.

    It is the one whose first token is likeliest. Where several begin with that token, their next
    ones decide among them, after it; an option that is the beginning of another one is chosen when
    the model would go on otherwise than the longer one does. Of equally likely ones the last is
    chosen: with the wanted one first, nothing is gained by a tie.

    Args:
        prompts: What the model reads.
        options: For each prompt the tokens of its options, from `options_after`.
        next_logits: Asks the model.
    """
    choices = [
        _Choice(prompt, dict(enumerate(some)))
        for prompt, some in zip(prompts, options, strict=True)
    ]
    while open_ones := [choice for choice in choices if choice.is_open()]:
        logits = next_logits([choice.prompt for choice in open_ones])
        for choice, row in zip(open_ones, logits, strict=True):
            choice.decide(row)
    return [next(iter(choice.left)) for choice in choices]


@dataclass
class _Choice:
    """A prompt with the tokens chosen so far, and what is left of each option that fits them."""

    prompt: TokenizedPrompt
    left: dict[int, list[int]]

    def is_open(self) -> bool:
        """Read what all options left begin with; tell whether there is anything to decide."""
        while len(self.left) > 1:
            first = {tuple(tokens[:1]) for tokens in self.left.values()}
            if len(first) > 1:
                return True
            self._read(*first.pop())
        return False

    def decide(self, logits: Tensor) -> None:
        going = [tokens[0] for tokens in self.left.values() if tokens]
        best = max(reversed(going), key=lambda token: float(logits[token]))
        ended = [number for number, tokens in self.left.items() if not tokens]
        if ended and float(logits[best]) < float(logits.max()):
            self.left = {ended[0]: []}
        else:
            self._read(best)

    def _read(self, token: int) -> None:
        (self.prompt,) = continued(self.prompt, [[token]])
        self.left = {
            number: tokens[1:] for number, tokens in self.left.items() if tokens[:1] == [token]
        }
