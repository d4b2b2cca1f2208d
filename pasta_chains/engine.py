"""`SteeredModel`: a Hugging Face causal language model that reads emphasis.

It checks that the attention of a model can be steered, and runs it. A prompt's bias goes
through `model.generate` as an argument; nothing about a request stays on the model, so threads may
share one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from .asked import Asked, ProfileLike, check_streamable
from .attention import BIAS
from .default_profile import NAME as DEFAULT
from .emphasis_model import EmphasisModel
from .errors import PromptError
from .generation import Generation, check_new_tokens, sampling
from .heads import check_fits_model, heads_by_layer
from .inputs import batch_inputs
from .inspection import measure_shares
from .loading import load_pretrained
from .logprobs import recorded_logprobs
from .overflow import Overflow
from .profile import FILE_NAME, HeadProfile
from .prompts import Prompt, TokenizedPrompt, as_list, tokenize
from .requests import Request, answer
from .scoring import continuation_ids, continued, log_probabilities
from .shares import AttentionShares
from .steerable import Steerable, make_steerable
from .streaming import (
    Cancelled,
    Decoding,
    StopStrings,
    TextStream,
    cut_at_stop,
    stream_text,
    until_cancelled,
)
from .structured import StructuredWriting, check_structure_fits, grammar_tokenizer
from .untrusted import ControlTokens, check_control_tokens

# What configurations call the longest context.
_LENGTHS = ("max_position_embeddings", "max_seq_len", "max_target_positions")


class SteeredModel(EmphasisModel):
    """A causal language model whose profiled heads read emphasized text more.

    Args:
        model: A loaded model. Its attention implementation is set to ours, which is transformers'
            `sdpa` for prompts without emphasis.
        tokenizer: Its tokenizer, a fast one.
        profile: The heads to steer, a file with them, or "default" for a guess
            (`default_profile`). Without one, prompts with emphasis are refused.
        control_tokens: Which text may become control tokens, as for `EmphasisModel`.

    Raises:
        UnsupportedModelError: The model's attention cannot be steered.
        ProfileError: The profile is not for this model.
        PromptError: There is no such way to read control tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        profile: ProfileLike | None = None,
        *,
        control_tokens: ControlTokens = "template",
    ) -> None:
        super().__init__(tokenizer, control_tokens)
        self.model: Any = model  # a PreTrainedModel, whose type does not tell that it generates
        if isinstance(profile, str | Path) and profile != DEFAULT:
            profile = HeadProfile.load(profile)
        if isinstance(profile, HeadProfile):
            check_fits_model(profile, model)  # before the model is touched

        def check(made: Steerable) -> None:
            self._steerable = made
            self._set_profile(profile)

        make_steerable(model, check)
        self.model.eval()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        profile: ProfileLike | None = None,
        *,
        control_tokens: ControlTokens = "template",
        **from_pretrained_arguments: Any,
    ) -> Self:
        """Load a model and its tokenizer with transformers.

        Args:
            name_or_path: A local folder or a name on the Hugging Face hub.
            profile: As for the class itself, but None is the `head_profile.json` of a local folder.
            control_tokens: Which text may become control tokens, as for the class itself.
            **from_pretrained_arguments: For `AutoModelForCausalLM.from_pretrained`, such as
                `dtype`, `device_map` or `revision`.

        Raises:
            UnsupportedModelError: There is no such model, or it cannot be steered.
            ProfileError: The profile is unreadable, or not for this model.
            PromptError: There is no such way to read control tokens.
        """
        check_control_tokens(control_tokens)  # before a large model is loaded
        model, tokenizer = load_pretrained(name_or_path, **from_pretrained_arguments)
        beside = Path(name_or_path) / FILE_NAME
        if profile is None and beside.is_file():
            profile = beside
        return cls(model, tokenizer, profile, control_tokens=control_tokens)

    @property
    def profile(self) -> HeadProfile | None:
        """The heads that are steered. It may be replaced between requests."""
        return self._profile

    @profile.setter
    def profile(self, profile: ProfileLike | None) -> None:
        self._set_profile(profile)

    @property
    def name(self) -> str:
        """Name or path that the model was loaded from."""
        return str(self.model.config.name_or_path)

    @property
    def context_length(self) -> int | None:
        """Most tokens that prompt and answer may have together; None when unlimited."""
        config = self.model.config.get_text_config()
        lengths = (getattr(config, name, None) for name in _LENGTHS)
        return next((int(length) for length in lengths if length), None)

    @property
    def head_counts(self) -> dict[int, int]:
        """For each layer whose heads can be steered how many there are."""
        usual = self.model.config.get_text_config().num_attention_heads
        return {layer: count or usual for layer, count in self._steerable.layers.items()}

    @property
    def takes_batches(self) -> bool:
        """Whether prompts of different lengths can be continued in one batch."""
        return self._steerable.batches

    def check_profile(self, profile: HeadProfile) -> None:
        """Refuse a profile that this model cannot be steered with.

        Raises:
            ProfileError: It is another model's, or names a layer or head that is not there.
        """
        heads_by_layer(profile, self.model, self._steerable)

    def score(
        self,
        prompt: Prompt,
        continuations: Sequence[str],
        *,
        alpha: float | None = None,
        profile: ProfileLike | None = None,
        overflow: Overflow = "error",
    ) -> list[float]:
        """Log-probability of each continuation after the prompt, in nats; see `EmphasisModel`."""
        answers = continuation_ids(self.tokenizer, continuations)
        room = self._context.room_for_prompt(max(map(len, answers), default=0), overflow)
        tokenized = self._tokenize(prompt, alpha, self._chosen(profile), room)
        if not answers:
            return []
        inputs = self.inputs_of(continued(tokenized, answers), profile, left=False)
        return log_probabilities(self.model, inputs, len(tokenized.ids), answers)

    def attention_to_spans(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int | None = None,
        alpha: float | None = None,
        profile: ProfileLike | None = None,
    ) -> AttentionShares:
        """For each head, what share of its attention is on the emphasized text.

        The model answers once: greedily, and steered if it has a profile. Then it reads prompt and
        answer with steering and without, so the shares compare the same text.

        Args:
            prompt: As for `generate`, one only. It may have emphasis although the model has no
                profile; then nothing is steered, and the steered shares are None.
            max_new_tokens: Longest answer; as for `run`.
            alpha: Instead of the profile's.
            profile: As for `run`.

        Raises:
            PromptError: Nothing is emphasized, or the prompt is malformed.
            EmphasisError: A span covers no token, or alpha is out of range.
            PromptTooLongError: Prompt and answer do not fit the context.
            UnsupportedModelError: The model does not show its attention.
        """
        check_new_tokens(max_new_tokens)
        chosen = self._chosen(profile)
        if chosen is not None:
            tokenized = self._tokenize(prompt, alpha, chosen)
        else:
            alpha = 1.0 if alpha is None else alpha
            tokenized = tokenize(prompt, self.tokenizer, alpha, self.control_tokens)
        inputs = self._inputs([tokenized], self._heads_of(chosen))
        room = self._context.room_for_answer(len(tokenized.ids), max_new_tokens)
        return measure_shares(
            self.model, self.tokenizer, tokenized, inputs, room, profiled=chosen is not None
        )

    def inputs(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        alpha: float | None = None,
        profile: ProfileLike | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What `self.model.generate` or `self.model` takes for a prompt or a batch.

        For whatever transformers can do and this class has no name for:
        `steered.model.generate(**steered.inputs(prompt), num_beams=4)`.

        Returns:
            `input_ids` and `attention_mask`, left-padded, of shape (rows, tokens), and the steering
            arguments when a prompt has emphasis.

        Raises:
            PastaError: As `run` does.
        """
        prompts, _ = as_list(prompt)
        if not prompts:
            raise PromptError("The list of prompts is empty.")
        if len(prompts) > 1 and not self._steerable.batches:
            raise PromptError(
                f"{type(self.model).__name__} counts positions from the padding on, so its prompts "
                "cannot be put in one batch. Pass one at a time; run and generate do so."
            )
        chosen = self._chosen(profile)
        tokenized = [
            self._tokenize(one, alpha, chosen, None, chat_template_kwargs) for one in prompts
        ]
        return self._inputs(tokenized, self._heads_of(chosen))

    def inputs_of(
        self,
        prompts: Sequence[TokenizedPrompt],
        profile: ProfileLike | None = None,
        *,
        left: bool,
    ) -> dict[str, Any]:
        """What `self.model` takes for prompts that are tokenized already.

        Args:
            prompts: One per row, of any length.
            profile: As for `run`.
            left: Pad on the left, as for `generate`. Padding on the right is for reading only: no
                token reads it, whatever the model makes of positions.

        Returns:
            As `inputs` does.

        Raises:
            PromptTooLongError: A prompt does not fit the context.
            ProfileError: The profile does not fit.
        """
        self._context.check_fits(max(len(prompt.ids) for prompt in prompts), 0)
        return self._inputs(prompts, self._heads_of(self._chosen(profile)), left=left)

    def _run(self, asked: Asked) -> list[Generation]:
        return answer(self.model, self._requests(asked))

    async def _arun(self, asked: Asked) -> list[Generation]:
        requests = self._requests(asked)
        return await until_cancelled(lambda: answer(self.model, requests), requests[0].cancelled)

    def _stream(self, asked: Asked) -> TextStream:
        (request,) = self._requests(asked)
        check_streamable(asked, self.tokenizer)
        ended: list[Generation] = []

        def write(streamer: BaseStreamer) -> None:
            streamed = replace(request, arguments=request.arguments | {"streamer": streamer})
            ended.extend(answer(self.model, [streamed]))

        pieces = stream_text(write, request.decode, request.cancelled)
        cut = cut_at_stop(pieces, asked.stop)
        (read,) = asked.prompts
        return TextStream(cut, request.cancelled, ended, read.dropped, read.dropped_tokens)

    def _requests(self, asked: Asked) -> list[Request]:
        """One for the whole batch, or one for each prompt if padding would move its positions."""
        cancelled = Cancelled()
        if self._steerable.batches:
            return [self._request(asked, cancelled)]
        alone = [replace(asked, prompts=[prompt]) for prompt in asked.prompts]
        return [self._request(one, cancelled) for one in alone]

    def _request(self, asked: Asked, cancelled: Cancelled) -> Request:
        arguments = dict(asked.arguments)
        inputs = self._inputs(asked.prompts, self._heads_of(asked.profile))
        width = inputs["input_ids"].shape[1]
        stopping = StopStrings(self.tokenizer, asked.stop, width)
        given = arguments.pop("stopping_criteria", ())
        defaults = self.model.generation_config
        ends = arguments.get("eos_token_id", defaults.eos_token_id)
        decode = Decoding(self.tokenizer, ends, asked.special_tokens)
        most = self._context.room_for_answer(width, asked.max_new_tokens)
        writing = None
        if asked.structure is not None:
            check_structure_fits(arguments, defaults)
            writing = StructuredWriting(self._grammar_tokenizer, asked.structure, width, most)
        recorded = recorded_logprobs(asked.logprobs, arguments, defaults)
        own = arguments.pop("logits_processor", ())
        processors = [recorded, *own, writing, *sampling(asked.seed, arguments, defaults)]
        arguments |= inputs | {
            "logits_processor": LogitsProcessorList([one for one in processors if one is not None]),
            "max_new_tokens": most,
            "stopping_criteria": StoppingCriteriaList([*given, stopping, cancelled]),
        }
        return Request(asked.prompts, stopping, cancelled, decode, writing, recorded, arguments)

    def _set_profile(self, profile: ProfileLike | None) -> None:
        if profile is not None:
            profile = self.read_profile(profile)
        self._heads = heads_by_layer(profile, self.model, self._steerable)
        self._profile = profile

    def _heads_of(self, profile: HeadProfile | None) -> Mapping[int, tuple[int, ...]]:
        """A profile's heads for every layer."""
        if profile is self._profile:
            return self._heads
        return heads_by_layer(profile, self.model, self._steerable)

    @cached_property
    def _grammar_tokenizer(self) -> Any:
        vocabulary = self.model.config.get_text_config().vocab_size
        ends = self.model.generation_config.eos_token_id
        return grammar_tokenizer(self.tokenizer, vocabulary, ends)

    def _inputs(
        self,
        prompts: Sequence[TokenizedPrompt],
        heads: Mapping[int, tuple[int, ...]],
        *,
        left: bool = True,
    ) -> dict[str, Any]:
        pad = self.tokenizer.pad_token_id
        inputs = batch_inputs(prompts, heads, pad=pad, device=self.model.device, left=left)
        if BIAS in inputs:
            self._steerable.check_is_still(self.model)
        return inputs
