"""`SteeredModel`: a Hugging Face causal language model that reads emphasis.

It checks that the attention of a model can be steered, and runs it. A prompt's bias goes
through `model.generate` as an argument; nothing about a request stays on the model, so threads may
share one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, overload

from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from .attention import BIAS
from .context import Context, Room
from .default_profile import NAME as DEFAULT
from .default_profile import default_profile
from .errors import ProfileError, PromptError, UnsupportedModelError
from .generation import Generation, check_arguments, check_new_tokens, checked_stop, sampling
from .heads import check_fits_model, heads_by_layer
from .inputs import batch_inputs
from .inspection import measure_shares
from .loading import load_pretrained
from .logprobs import recorded_logprobs
from .overflow import Overflow
from .profile import FILE_NAME, HeadProfile
from .prompts import (
    Prompt,
    TokenizedPrompt,
    as_list,
    check_chat_template_kwargs,
    tokenize,
    tokenize_to_fit,
)
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
    in_background,
    stream_text,
    until_cancelled,
)
from .structured import Structure, StructuredWriting, check_structure_fits, grammar_tokenizer
from .untrusted import ControlTokens, check_control_tokens

# What configurations call the longest context.
_LENGTHS = ("max_position_embeddings", "max_seq_len", "max_target_positions")


class SteeredModel:
    """A causal language model whose profiled heads read emphasized text more.

    Args:
        model: A loaded model. Its attention implementation is set to ours, which is transformers'
            `sdpa` for prompts without emphasis.
        tokenizer: Its tokenizer, a fast one.
        profile: The heads to steer, a file with them, or "default" for a guess
            (`default_profile`). Without one, prompts with emphasis are refused.
        control_tokens: Which text may become control tokens such as role markers. By default
            ("template") the chat template's and that of text prompts, but not that of chat
            messages; "nowhere" keeps text prompts text, too; "anywhere" is as in transformers.

    Raises:
        UnsupportedModelError: The model's attention cannot be steered.
        ProfileError: The profile is not for this model.
        PromptError: There is no such way to read control tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        profile: HeadProfile | str | Path | None = None,
        *,
        control_tokens: ControlTokens = "template",
    ) -> None:
        check_control_tokens(control_tokens)
        if not tokenizer.is_fast:
            raise UnsupportedModelError(
                f"{type(tokenizer).__name__} is a slow tokenizer and gives no character offsets, "
                "which emphasis needs. Load the model's fast tokenizer."
            )
        self.model: Any = model  # a PreTrainedModel, whose type does not tell that it generates
        self.tokenizer = tokenizer
        self.control_tokens: ControlTokens = control_tokens
        if isinstance(profile, str | Path) and profile != DEFAULT:
            profile = HeadProfile.load(profile)
        if isinstance(profile, HeadProfile):
            check_fits_model(profile, model)  # before the model is touched

        def check(made: Steerable) -> None:
            self._steerable = made
            self.profile = profile

        make_steerable(model, check)
        self.model.eval()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        profile: HeadProfile | str | Path | None = None,
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
    def profile(self, profile: HeadProfile | str | Path | None) -> None:
        if profile is not None:
            profile = self.read_profile(profile)
        self._heads = heads_by_layer(profile, self.model, self._steerable)
        self._profile = profile

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

    @overload
    def generate(self, prompt: Prompt, **arguments: Any) -> str: ...

    @overload
    def generate(self, prompt: Sequence[Prompt], **arguments: Any) -> list[str]: ...

    def generate(self, prompt: Prompt | Sequence[Prompt], **arguments: Any) -> str | list[str]:
        """Continue a prompt, or a batch of prompts.

        Args:
            prompt: A `SpanStr` or `str`, which the model continues as it stands; a list of chat
                messages, which go through the model's chat template; or a list of such prompts.
            **arguments: Those of `run`.

        Returns:
            The new text; for a list of prompts, or with `num_return_sequences`, a list of texts.

        Raises:
            PastaError: As `run` does.
        """
        prompts, is_list = as_list(prompt)
        texts = [generation.text for generation in self.run(prompts, **arguments)]
        return texts if is_list or len(texts) > 1 else texts[0]

    def run(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = (),
        alpha: float | None = None,
        profile: HeadProfile | str | Path | None = None,
        seed: int | None = None,
        overflow: Overflow = "error",
        structure: Structure | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        special_tokens: Collection[str] = (),
        logprobs: bool | int = False,
        **generation_arguments: Any,
    ) -> list[Generation]:
        """Continue a batch of prompts and tell how each ended.

        Args:
            prompts: As for `generate`.
            max_new_tokens: Longest answer; by default 256 or what the context leaves.
            stop: Texts that end an answer, or one.
            alpha: Instead of the profile's, for spans that have none of their own.
            profile: The heads to steer in this call, as for the class; None is the model's.
            overflow: What to do when a prompt and its answer do not fit the context: "error", or
                "keep-emphasis" to drop plain text from the prompt, oldest first.
            structure: A form that every answer must have, such as `Structure.json(schema)`.
            chat_template_kwargs: For the model's chat template: `{"enable_thinking": False}`,
                `{"tools": [schema, function, …]}`.
            special_tokens: Those that stay in the text; by default none does.
            logprobs: Tell the log-probability of each token written; a number tells those of so
                many of the likeliest tokens, too.
            seed: Of sampling (`do_sample=True`). A prompt's answer then depends on nothing else:
                not on the batch, and not on other threads. None is torch's global generator.
            **generation_arguments: For transformers' `generate`, such as `do_sample`.

        Returns:
            One for each prompt; with `num_return_sequences` that many for each, prompt by prompt.

        Raises:
            PromptError: A prompt is malformed, or transformers refuses the arguments.
            EmphasisError: A span covers no token, or alpha is out of range.
            ProfileError: A prompt has emphasis without a profile, or the profile does not fit.
            PromptTooLongError: A prompt and its answer do not fit the context.
        """
        prompts, _ = as_list(prompts)
        if not prompts:
            return []
        asked = generation_arguments | {
            "max_new_tokens": max_new_tokens,
            "stop": stop,
            "alpha": alpha,
            "profile": profile,
            "seed": seed,
            "overflow": overflow,
            "structure": structure,
            "chat_template_kwargs": chat_template_kwargs,
            "special_tokens": special_tokens,
            "logprobs": logprobs,
        }
        return answer(self.model, self._requests(prompts, **asked))

    async def arun(self, prompts: Prompt | Sequence[Prompt], **arguments: Any) -> list[Generation]:
        """`run` in a thread. Cancelling the task stops the model and waits until it is free.

        Args:
            prompts: As for `generate`.
            **arguments: Those of `run`.

        Raises:
            PastaError: As `run` does.
        """
        prompts, _ = as_list(prompts)
        if not prompts:
            return []
        requests = self._requests(prompts, **arguments)
        return await until_cancelled(lambda: answer(self.model, requests), requests[0].cancelled)

    async def agenerate(
        self, prompt: Prompt | Sequence[Prompt], **arguments: Any
    ) -> str | list[str]:
        """`generate` in a thread. Cancelling the task stops the model and waits for it."""
        prompts, is_list = as_list(prompt)
        texts = [generation.text for generation in await self.arun(prompts, **arguments)]
        return texts if is_list or len(texts) > 1 else texts[0]

    def stream(self, prompt: Prompt, **arguments: Any) -> TextStream:
        """Continue one prompt and yield the text as it comes.

        Closing the generator stops the model. Errors in the prompt are raised here, before the
        first piece.

        Args:
            prompt: As for `generate`, one only.
            **arguments: Those of `run`.

        Returns:
            A generator that knows what was dropped from the prompt.

        Raises:
            PastaError: As `run` does.
        """
        request = self._request([prompt], **arguments)
        for name in ("num_beams", "num_return_sequences"):
            if request.arguments.get(name, 1) != 1:
                raise PromptError(f"{name} cannot be streamed: there is one text only. Use run.")
        for word in request.stopping.stop:
            if any(token in word and token != word for token in self.tokenizer.all_special_tokens):
                raise PromptError(
                    f"The stop string {word!r} holds a special token and other text, so what is "
                    "before it cannot be streamed. Use run."
                )
        ended: list[Generation] = []

        def write(streamer: BaseStreamer) -> None:
            streamed = replace(request, arguments=request.arguments | {"streamer": streamer})
            ended.extend(answer(self.model, [streamed]))

        pieces = stream_text(write, request.decode, request.cancelled)
        cut = cut_at_stop(pieces, request.stopping.stop)
        (read,) = request.prompts
        return TextStream(cut, request.cancelled, ended, read.dropped, read.dropped_tokens)

    def astream(self, prompt: Prompt, **arguments: Any) -> AsyncGenerator[str, None]:
        """`stream` for asyncio. Cancelling or closing it stops the model.

        Args:
            prompt: As for `generate`, one only.
            **arguments: Those of `run`.

        Raises:
            PastaError: As `run` does, here, before the first piece.
        """
        return in_background(self.stream(prompt, **arguments))

    def score(
        self,
        prompt: Prompt,
        continuations: Sequence[str],
        *,
        alpha: float | None = None,
        profile: HeadProfile | str | Path | None = None,
        overflow: Overflow = "error",
    ) -> list[float]:
        """Log-probability of each continuation after the prompt, in nats.

        Args:
            prompt: As for `generate`, one only.
            continuations: Texts, tokenized apart from the prompt: include a leading space where
                the tokenizer's words begin with one.
            alpha: Instead of the profile's.
            profile: As for `run`.
            overflow: As for `run`; the longest continuation is the answer.

        Raises:
            PromptError: A continuation is empty, or the prompt is malformed.
            PastaError: As `run` does.
        """
        answers = continuation_ids(self.tokenizer, continuations)
        room = self._context.room_for_prompt(max(map(len, answers), default=0), overflow)
        chosen, _ = self._steering(profile)
        tokenized = self._tokenize(prompt, alpha, chosen, room)
        if not answers:
            return []
        inputs = self.inputs_of(continued(tokenized, answers), profile, left=False)
        return log_probabilities(self.model, inputs, len(tokenized.ids), answers)

    def attention_to_spans(
        self, prompt: Prompt, *, max_new_tokens: int | None = None, alpha: float | None = None
    ) -> AttentionShares:
        """For each head, what share of its attention is on the emphasized text.

        The model answers once: greedily, and steered if it has a profile. Then it reads prompt and
        answer with steering and without, so the shares compare the same text.

        Args:
            prompt: As for `generate`, one only. It may have emphasis although the model has no
                profile; then nothing is steered, and the steered shares are None.
            max_new_tokens: Longest answer; as for `run`.
            alpha: Instead of the profile's.

        Raises:
            PromptError: Nothing is emphasized, or the prompt is malformed.
            EmphasisError: A span covers no token, or alpha is out of range.
            PromptTooLongError: Prompt and answer do not fit the context.
            UnsupportedModelError: The model does not show its attention.
        """
        check_new_tokens(max_new_tokens)
        profiled = self._profile is not None
        if profiled:
            tokenized = self._tokenize(prompt, alpha, self._profile)
        else:
            alpha = 1.0 if alpha is None else alpha
            tokenized = tokenize(prompt, self.tokenizer, alpha, self.control_tokens)
        inputs = self._inputs([tokenized], self._heads)
        room = self._context.room_for_answer(len(tokenized.ids), max_new_tokens)
        return measure_shares(
            self.model, self.tokenizer, tokenized, inputs, room, profiled=profiled
        )

    def inputs(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        alpha: float | None = None,
        profile: HeadProfile | str | Path | None = None,
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
        chosen, heads = self._steering(profile)
        tokenized = [
            self._tokenize(one, alpha, chosen, None, chat_template_kwargs) for one in prompts
        ]
        return self._inputs(tokenized, heads)

    def inputs_of(
        self,
        prompts: Sequence[TokenizedPrompt],
        profile: HeadProfile | str | Path | None = None,
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
        _, heads = self._steering(profile)
        self._context.check_fits(max(len(prompt.ids) for prompt in prompts), 0)
        return self._inputs(prompts, heads, left=left)

    def read_profile(self, profile: HeadProfile | str | Path) -> HeadProfile:
        """What `profile=` stands for: a profile itself, the one in a file, or the default one.

        Raises:
            ProfileError: It is neither, or the file is unreadable.
        """
        if profile == DEFAULT:
            return default_profile(self.head_counts)
        if isinstance(profile, str | Path):
            return HeadProfile.load(profile)
        if not isinstance(profile, HeadProfile):
            raise ProfileError(
                f"profile is {profile!r}; it must be a HeadProfile, a file of one, or {DEFAULT!r}."
            )
        return profile

    def check_profile(self, profile: HeadProfile) -> None:
        """Refuse a profile that this model cannot be steered with.

        Raises:
            ProfileError: It is another model's, or names a layer or head that is not there.
        """
        heads_by_layer(profile, self.model, self._steerable)

    @property
    def head_counts(self) -> dict[int, int]:
        """For each layer whose heads can be steered how many there are."""
        usual = self.model.config.get_text_config().num_attention_heads
        return {layer: count or usual for layer, count in self._steerable.layers.items()}

    @property
    def takes_batches(self) -> bool:
        """Whether prompts of different lengths can be continued in one batch."""
        return self._steerable.batches

    def count_tokens(
        self, prompt: Prompt, *, chat_template_kwargs: Mapping[str, Any] | None = None
    ) -> int:
        """Number of tokens the model reads for a prompt."""
        given = check_chat_template_kwargs(chat_template_kwargs)
        return len(tokenize(prompt, self.tokenizer, 1.0, self.control_tokens, given).ids)

    def _requests(self, prompts: Sequence[Prompt], **arguments: Any) -> list[Request]:
        """One for the whole batch, or one for each prompt if padding would move its positions."""
        if self._steerable.batches:
            return [self._request(prompts, **arguments)]
        cancelled = Cancelled()
        return [self._request([prompt], cancelled=cancelled, **arguments) for prompt in prompts]

    def _request(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = (),
        alpha: float | None = None,
        profile: HeadProfile | str | Path | None = None,
        seed: int | None = None,
        overflow: Overflow = "error",
        structure: Structure | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        special_tokens: Collection[str] = (),
        logprobs: bool | int = False,
        cancelled: Cancelled | None = None,
        **arguments: Any,
    ) -> Request:
        check_arguments(arguments)
        check_new_tokens(max_new_tokens)
        room = self._context.room_for_prompt(max_new_tokens, overflow)
        chosen, heads = self._steering(profile)
        tokenized = [
            self._tokenize(prompt, alpha, chosen, room, chat_template_kwargs) for prompt in prompts
        ]
        inputs = self._inputs(tokenized, heads)
        width = inputs["input_ids"].shape[1]
        stopping = StopStrings(self.tokenizer, checked_stop(stop), width)
        cancelled = cancelled or Cancelled()
        given = arguments.pop("stopping_criteria", ())
        defaults = self.model.generation_config
        ends = arguments.get("eos_token_id", defaults.eos_token_id)
        decode = Decoding(self.tokenizer, ends, special_tokens)
        most = self._context.room_for_answer(width, max_new_tokens)
        writing = None
        if structure is not None:
            check_structure_fits(arguments, defaults)
            writing = StructuredWriting(self._grammar_tokenizer, structure, width, most)
        recorded = recorded_logprobs(logprobs, arguments, defaults)
        own = arguments.pop("logits_processor", ())
        processors = [recorded, *own, writing, *sampling(seed, arguments, defaults)]
        arguments |= inputs | {
            "logits_processor": LogitsProcessorList([one for one in processors if one is not None]),
            "max_new_tokens": most,
            "stopping_criteria": StoppingCriteriaList([*given, stopping, cancelled]),
        }
        return Request(tokenized, stopping, cancelled, decode, writing, recorded, arguments)

    def _steering(
        self, profile: HeadProfile | str | Path | None
    ) -> tuple[HeadProfile | None, Mapping[int, tuple[int, ...]]]:
        """The profile of one call, and its heads for every layer."""
        if profile is None:
            return self._profile, self._heads
        profile = self.read_profile(profile)
        return profile, heads_by_layer(profile, self.model, self._steerable)

    def _tokenize(
        self,
        prompt: Prompt,
        alpha: float | None,
        profile: HeadProfile | None,
        room: Room | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> TokenizedPrompt:
        if alpha is None:
            alpha = profile.alpha if profile else 1.0
        given = check_chat_template_kwargs(chat_template_kwargs)
        read = (self.tokenizer, alpha, self.control_tokens, given)
        tokenized = (
            tokenize(prompt, *read) if room is None else tokenize_to_fit(prompt, room, *read)
        )
        if tokenized.text.spans and profile is None:
            raise ProfileError(
                f"The prompt emphasizes text, but {self.name or 'the model'} has no head profile, "
                "so nothing would be steered. Pass profile=… when loading it: "
                "HeadProfile.for_model knows those of some models, pasta-chains profile finds "
                f"others, {DEFAULT!r} is a guess, and "
                "HeadProfile(heads={}) says that nothing is to be steered."
            )
        return tokenized

    @cached_property
    def _grammar_tokenizer(self) -> Any:
        vocabulary = self.model.config.get_text_config().vocab_size
        ends = self.model.generation_config.eos_token_id
        return grammar_tokenizer(self.tokenizer, vocabulary, ends)

    @property
    def _context(self) -> Context:
        return Context(self.context_length, self.name)

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
