"""What a model that reads emphasis can be asked, wherever it runs.

`SteeredModel` runs it in this process, `RemoteModel` asks a server. Both read prompts here, in the
same way, so that they read the same tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from transformers import PreTrainedTokenizerBase

from .asked import Asked, ProfileLike
from .context import Context, Room
from .default_profile import NAME as DEFAULT
from .default_profile import default_profile
from .errors import ProfileError, PromptError, UnsupportedModelError
from .generation import Generation, check_arguments, check_new_tokens, checked_stop
from .overflow import Overflow
from .profile import HeadProfile
from .prompts import (
    Prompt,
    TokenizedPrompt,
    as_list,
    check_chat_template_kwargs,
    tokenize,
    tokenize_to_fit,
)
from .streaming import TextStream
from .structured import Structure
from .untrusted import ControlTokens, check_control_tokens


class EmphasisModel(ABC):
    """A causal language model that reads emphasis.

    Attributes:
        tokenizer: The model's.
        control_tokens: Which text may become control tokens such as role markers. By default
            ("template") the chat template's and that of text prompts, but not that of chat
            messages; "nowhere" keeps text prompts text, too; "anywhere" is as in transformers.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control_tokens: ControlTokens) -> None:
        check_control_tokens(control_tokens)
        if not tokenizer.is_fast:
            raise UnsupportedModelError(
                f"{type(tokenizer).__name__} is a slow tokenizer and gives no character offsets, "
                "which emphasis needs. Load the model's fast tokenizer."
            )
        self.tokenizer = tokenizer
        self.control_tokens: ControlTokens = control_tokens

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model, or the path that it was loaded from."""

    @property
    @abstractmethod
    def context_length(self) -> int | None:
        """Most tokens that prompt and answer may have together; None when unlimited."""

    @property
    @abstractmethod
    def profile(self) -> HeadProfile | None:
        """The heads that are steered."""

    @property
    @abstractmethod
    def head_counts(self) -> dict[int, int]:
        """For each layer whose heads can be steered how many there are."""

    @abstractmethod
    def check_profile(self, profile: HeadProfile) -> None:
        """Refuse a profile that this model cannot be steered with.

        Raises:
            ProfileError: It is another model's, or names a layer or head that is not there.
        """

    @abstractmethod
    def score(
        self,
        prompt: Prompt,
        continuations: Sequence[str],
        *,
        alpha: float | None = None,
        profile: ProfileLike | None = None,
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

    @abstractmethod
    def _run(self, asked: Asked) -> list[Generation]: ...

    @abstractmethod
    async def _arun(self, asked: Asked) -> list[Generation]: ...

    @abstractmethod
    def _stream(self, asked: Asked) -> TextStream: ...

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
        return _texts(self.run(prompts, **arguments), is_list)

    async def agenerate(
        self, prompt: Prompt | Sequence[Prompt], **arguments: Any
    ) -> str | list[str]:
        """`generate` for asyncio. Cancelling the task stops the model and waits for it."""
        prompts, is_list = as_list(prompt)
        return _texts(await self.arun(prompts, **arguments), is_list)

    def run(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = (),
        alpha: float | None = None,
        profile: ProfileLike | None = None,
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
            profile: The heads to steer in this call: a profile, a file with one, or "default" for
                a guess; None is the model's own.
            overflow: What to do when a prompt and its answer do not fit the context: "error", or
                "keep-emphasis" to drop plain text from the prompt, oldest first.
            structure: A form that every answer must have, such as `Structure.json(schema)`.
            chat_template_kwargs: For the model's chat template: `{"enable_thinking": False}`,
                `{"tools": [schema, function, …]}`.
            special_tokens: Those that stay in the text; by default none does.
            logprobs: Tell the log-probability of each token written; a number tells those of so
                many of the likeliest tokens, too.
            seed: Of sampling (`do_sample=True`). A prompt's answer then depends on nothing else:
                not on the batch, and not on other threads. None is any.
            **generation_arguments: As of transformers' `generate`, such as `do_sample`.

        Returns:
            One for each prompt; with `num_return_sequences` that many for each, prompt by prompt.

        Raises:
            PromptError: A prompt is malformed, or the model cannot generate in this way.
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
        return self._run(self._ask(prompts, **asked))

    async def arun(self, prompts: Prompt | Sequence[Prompt], **arguments: Any) -> list[Generation]:
        """`run` for asyncio. Cancelling the task stops the model and waits until it is free.

        Args:
            prompts: As for `generate`.
            **arguments: Those of `run`.

        Raises:
            PastaError: As `run` does.
        """
        prompts, _ = as_list(prompts)
        return await self._arun(self._ask(prompts, **arguments)) if prompts else []

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
        return self._stream(self._ask([prompt], **arguments))

    def astream(self, prompt: Prompt, **arguments: Any) -> AsyncGenerator[str, None]:
        """`stream` for asyncio. Cancelling or closing it stops the model.

        Args:
            prompt: As for `generate`, one only.
            **arguments: Those of `run`.

        Raises:
            PastaError: As `run` does, here, before the first piece.
        """
        return self.stream(prompt, **arguments).pieces()

    def read_profile(self, profile: ProfileLike) -> HeadProfile:
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

    def count_tokens(
        self, prompt: Prompt, *, chat_template_kwargs: Mapping[str, Any] | None = None
    ) -> int:
        """Number of tokens the model reads for a prompt."""
        given = check_chat_template_kwargs(chat_template_kwargs)
        return len(tokenize(prompt, self.tokenizer, 1.0, self.control_tokens, given).ids)

    def read_prompt(
        self,
        prompt: Prompt,
        *,
        alpha: float | None = None,
        profile: ProfileLike | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> TokenizedPrompt:
        """A prompt as the model reads it: its text and tokens, and how much each counts.

        Args:
            prompt: As for `generate`, one only.
            alpha: Instead of the profile's.
            profile: As for `run`.
            chat_template_kwargs: As for `run`.

        Raises:
            PastaError: As `run` does.
        """
        return self._tokenize(
            prompt, alpha, self._chosen(profile), chat_template_kwargs=chat_template_kwargs
        )

    @property
    def _context(self) -> Context:
        return Context(self.context_length, self.name)

    def _ask(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = (),
        alpha: float | None = None,
        profile: ProfileLike | None = None,
        seed: int | None = None,
        overflow: Overflow = "error",
        structure: Structure | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        special_tokens: Collection[str] = (),
        logprobs: bool | int = False,
        **arguments: Any,
    ) -> Asked:
        check_arguments(arguments)
        check_new_tokens(max_new_tokens)
        if not isinstance(structure, Structure | None):
            raise PromptError(
                f"structure is {structure!r}; it must be a Structure, such as "
                "Structure.json(schema)."
            )
        room = self._context.room_for_prompt(max_new_tokens, overflow)
        chosen = self._chosen(profile)
        alpha = _alpha(alpha, chosen)
        tokenized = [
            self._tokenize(prompt, alpha, chosen, room, chat_template_kwargs) for prompt in prompts
        ]
        return Asked(
            tokenized,
            chosen,
            alpha,
            max_new_tokens,
            checked_stop(stop),
            seed,
            structure,
            special_tokens,
            logprobs,
            arguments,
        )

    def _chosen(self, profile: ProfileLike | None) -> HeadProfile | None:
        """The profile of one call."""
        if profile is None:
            return self.profile
        profile = self.read_profile(profile)
        self.check_profile(profile)
        return profile

    def _tokenize(
        self,
        prompt: Prompt,
        alpha: float | None,
        profile: HeadProfile | None,
        room: Room | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> TokenizedPrompt:
        given = check_chat_template_kwargs(chat_template_kwargs)
        read = (self.tokenizer, _alpha(alpha, profile), self.control_tokens, given)
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


def _alpha(given: float | None, profile: HeadProfile | None) -> float:
    if given is not None:
        return given
    return profile.alpha if profile else 1.0


def _texts(answers: Sequence[Generation], is_list: bool) -> str | list[str]:
    texts = [answer.text for answer in answers]
    return texts if is_list or len(texts) > 1 else texts[0]
