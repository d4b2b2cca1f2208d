"""One answer of a model: what may be asked for, and what came."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig, LogitsProcessor

from .errors import PromptError
from .logprobs import TokenLogprob
from .overflow import Dropped
from .prompts import TokenizedPrompt
from .sampling import SeededSampling
from .streaming import Decoding, StopStrings


@dataclass(frozen=True)
class Generation:
    """What the model wrote for one prompt.

    Attributes:
        text: The new text, without the end token or stop string that ended it, and without other
            special tokens unless they were asked for.
        prompt_tokens: Number of tokens read.
        new_tokens: Number of tokens written, the end token included.
        finish_reason: "stop" when the model or a stop string ended the text, otherwise "length".
        dropped: The ranges of the prompt's text that were left out to make it fit.
        dropped_tokens: By how many tokens that made it shorter.
        logprobs: Of each token written, if they were asked for.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    finish_reason: str
    dropped: tuple[Dropped, ...] = ()
    dropped_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


def read_generation(
    decode: Decoding, prompt: TokenizedPrompt, new: list[int], stopping: StopStrings
) -> Generation:
    """Tell what a model wrote from its tokens.

    Args:
        decode: Makes text of them.
        prompt: What it read.
        new: The tokens written, and padding after them.
        stopping: What was to end the answer.
    """
    last = decode.ends
    length = next((i + 1 for i, token in enumerate(new) if token in last), len(new))
    stopped = stopping.length(new[:length])  # what follows is padding
    length = length if stopped is None else stopped
    if stopped is None:
        text = decode(new[:length])
    else:
        text = _before_stop(decode, new[:length], stopping.stop)
    ended = stopped is not None or (length > 0 and new[length - 1] in last)
    reason = "stop" if ended else "length"
    return Generation(text, len(prompt.ids), length, reason, prompt.dropped, prompt.dropped_tokens)


def _before_stop(decode: Decoding, new: list[int], stop: Sequence[str]) -> str:
    """The text before the first stop string, which may hold special tokens."""

    def length(count: int) -> int:
        return len(decode.whole(new[:count]))

    whole = decode.whole(new)
    cut = min(whole.find(word) for word in stop if word in whole)
    count = bisect_right(range(len(new) + 1), cut, key=length) - 1
    return decode(new[:count]) + whole[length(count) : cut]


_REFUSED_ARGUMENTS = {
    "generation_config": "pass its values as arguments of their own",
    "max_length": "use max_new_tokens",
    "input_ids": "the prompt says what the model reads",
    "inputs_embeds": "the prompt says what the model reads",
    "attention_mask": "the prompt says what the model reads",
    "return_dict_in_generate": "call steered.model.generate(**steered.inputs(prompt), …)",
}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of transformers' `generate` that do something else here.

    Raises:
        PromptError: One was given; the message says what to do instead.
    """
    for name, way_out in _REFUSED_ARGUMENTS.items():
        if name in arguments:
            raise PromptError(f"{name} cannot be used here: {way_out}.")


def check_new_tokens(wanted: int | None) -> None:
    """Refuse a longest answer that is no number of tokens.

    Raises:
        PromptError: It is neither None nor a whole number above 0.
    """
    if wanted is not None and (type(wanted) is not int or wanted < 1):
        raise PromptError(f"max_new_tokens is {wanted!r}; it must be a whole number above 0.")


def check_seed(seed: int | None) -> None:
    """Refuse a seed that is none.

    Raises:
        PromptError: It is neither None nor a whole number from 0, below 2**40.
    """
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**40):
        raise PromptError(f"seed is {seed!r}; it must be a whole number from 0, below 2**40.")


def checked_stop(stop: str | Sequence[str] | None) -> list[str]:
    """Returns the texts that end an answer as a list; None is none.

    Raises:
        PromptError: One of them is no text, or empty.
    """
    if not isinstance(stop, str | Sequence | None):
        raise PromptError(f"stop is {stop!r}; it must be a text or a list of texts.")
    stop = [stop] if isinstance(stop, str) else list(stop or ())
    for word in stop:
        if not isinstance(word, str) or not word:
            raise PromptError(f"{word!r} cannot end an answer; a stop string is a text, not empty.")
    return stop


def sampling(
    seed: int | None, arguments: Mapping[str, Any], defaults: GenerationConfig
) -> list[LogitsProcessor]:
    """What samples with a seed of its own, for the arguments of one `generate`.

    Args:
        seed: None to leave sampling to transformers, and to torch's global generator.
        arguments: Those of `generate`.
        defaults: The model's own.

    Raises:
        PromptError: The seed is no whole number from 0, or the arguments search rather than sample.
    """
    check_seed(seed)
    if seed is None:
        return []
    for name in ("num_beams", "assistant_model", "prompt_lookup_num_tokens"):
        if arguments.get(name, getattr(defaults, name, None)) not in (None, 1):
            raise PromptError(
                f"seed cannot be combined with {name}, which draws several tokens at once. Leave "
                "one of them out."
            )
    if not arguments.get("do_sample", defaults.do_sample):
        return []  # the most likely token, whatever the seed
    copies = arguments.get("num_return_sequences", defaults.num_return_sequences) or 1
    return [SeededSampling(seed, copies)]
