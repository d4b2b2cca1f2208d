"""Greedy answers of many heads to one batch, mostly by checking answers that are known already.

Most single heads change few answers. So what the model writes with a head is first taken to be a
known answer to the same prompt, the draft, and one pass over prompt and draft tells how far that is
right: decoding would have chosen just these tokens. Only where it is wrong, and no other known
answer goes on as the model does, is the answer decoded token by token. The answers are those of
decoding, but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..context import Context
from ..engine import SteeredModel
from ..evaluation.asking import GREEDY, NOTHING
from ..profile import HeadProfile
from ..prompts import TokenizedPrompt
from ..requests import generate
from ..scoring import continued
from ..streaming import Decoding
from .beginnings import read
from .upper_layers import Reading

_SHAPING: Mapping[str, Any] = {
    **dict.fromkeys(("min_length", "min_new_tokens"), 0),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), 0),
    **dict.fromkeys(("guidance_scale", "encoder_repetition_penalty"), 1.0),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id"), None),
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"), None),
    **dict.fromkeys(("sequence_bias", "exponential_decay_length_penalty"), None),
    **dict.fromkeys(("stop_strings", "watermarking_config"), None),
}
"""What a model's configuration may say of its answers beside their tokens' likelihood, and what
says nothing. Drafts cannot be checked for it.
"""


class Writing:
    """A batch of prompts whose answers are wanted for many heads, one after the other.

    Args:
        model: The model.
        path: Where its layers are, from `upper_layers.path_of_layers`.
        prompts: Of the batch, with the bias of one alpha.
        every: A profile of all heads.
        max_new_tokens: Longest answer.

    Raises:
        PromptTooLongError: A prompt and its answer do not fit the context.
    """

    def __init__(
        self,
        model: SteeredModel,
        path: str | None,
        prompts: Sequence[TokenizedPrompt],
        every: HeadProfile,
        max_new_tokens: int,
    ) -> None:
        self._model, self._prompts, self._every = model, prompts, every
        self._most = max_new_tokens
        longest = max(len(prompt.ids) for prompt in prompts)
        Context(model.context_length, model.name).check_fits(longest, max_new_tokens)
        self._decode = Decoding(model.tokenizer, model.model.generation_config.eos_token_id)
        self._nothing: dict[int, list[int]] = {row: [] for row in range(len(prompts))}
        self._is_checked = not _is_shaped(model.model.generation_config)
        if self._is_checked:
            self._drafts = self._decoded(self._nothing, NOTHING)
            self._known = {row: [draft] for row, draft in self._drafts.items()}
            self._reading = self._read(path, self._drafts)

    def answers(self, profile: HeadProfile) -> list[str]:
        """The answer to each prompt, with a profile's heads steered."""
        if self._is_checked:
            found = self._checked(profile)
        else:
            found = self._decoded(self._nothing, profile)
        return [self._decode(found[row]) for row in sorted(found)]

    def _checked(self, profile: HeadProfile) -> dict[int, list[int]]:
        """Answers, for which drafts are checked first."""
        reading, drafts = self._reading, self._drafts
        found: dict[int, list[int]] = {}
        while drafts:
            logits = reading.logits(profile.heads)
            for (row, draft), steered in zip(drafts.items(), logits, strict=True):
                found[row] = self._agreed(steered, draft, len(found.get(row, ())))
            drafts = self._next_drafts(found)
            if drafts:
                reading = self._read(None, drafts)
        cut_off = {row: begun for row, begun in found.items() if not self._is_whole(begun)}
        if cut_off:
            found |= self._decoded(cut_off, profile)
        for row, answer in found.items():
            if answer not in self._known[row]:
                self._known[row].append(answer)
        return found

    def _agreed(self, logits: Tensor, draft: list[int], known: int) -> list[int]:
        """What the model writes as far as a draft tells: its beginning, and one token more.

        What is known already is not asked again: where two tokens are equally likely, another batch
        may tell otherwise, and asking would have no end.
        """
        chosen = logits.argmax(-1).tolist()
        count = next((n for n in range(known, len(draft)) if chosen[n] != draft[n]), len(draft))
        if count == len(draft) and self._is_whole(draft):
            return draft
        return [*draft[:count], chosen[count]]

    def _is_whole(self, answer: list[int]) -> bool:
        return len(answer) == self._most or answer[-1] in self._decode.ends

    def _next_drafts(self, found: dict[int, list[int]]) -> dict[int, list[int]]:
        """For the answers that are not whole yet, the known ones that go on as they begin."""
        drafts = {}
        for row, begun in found.items():
            if not self._is_whole(begun):
                going_on = (known for known in self._known[row] if known[: len(begun)] == begun)
                draft = next(going_on, None)
                if draft is not None:
                    drafts[row] = draft
        return drafts

    def _read(self, path: str | None, drafts: dict[int, list[int]]) -> Reading:
        prompts = [self._prompts[row] for row in drafts]
        whole = [
            continued(prompt, [draft])[0]
            for prompt, draft in zip(prompts, drafts.values(), strict=True)
        ]
        width = max(map(len, drafts.values())) + 1
        lengths = [len(prompt.ids) for prompt in prompts]
        return read(self._model, path, whole, self._every, lengths, width)

    def _decoded(self, begun: dict[int, list[int]], profile: HeadProfile) -> dict[int, list[int]]:
        """Answers token by token, each after what it begins with."""
        model = self._model.model
        found = {}
        for rows in [[*begun]] if self._model.takes_batches else [[row] for row in begun]:
            prompts = [continued(self._prompts[row], [begun[row]])[0] for row in rows]
            inputs = self._model.inputs_of(prompts, profile, left=True)
            most = self._most - min(len(begun[row]) for row in rows)
            output = generate(model, {**inputs, **GREEDY, "max_new_tokens": most})
            width = inputs["input_ids"].shape[1]
            for row, tokens in zip(rows, output[:, width:].tolist(), strict=True):
                found[row] = self._cut([*begun[row], *tokens])
        return found

    def _cut(self, answer: list[int]) -> list[int]:
        """An answer up to its end token, or as long as it may be."""
        ends = (at + 1 for at, token in enumerate(answer) if token in self._decode.ends)
        return answer[: min(next(ends, self._most), self._most)]


def _is_shaped(config: Any) -> bool:
    """Whether a configuration shapes answers."""
    return any(
        getattr(config, name, None) not in (None, says_nothing)
        for name, says_nothing in _SHAPING.items()
    )
