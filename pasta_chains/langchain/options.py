"""What `PastaLLM` and `ChatPasta` have in common: their fields, and what one call makes of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator

from .. import connect
from ..emphasis_model import EmphasisModel
from ..errors import AnswerTimeoutError, EmphasisError, PromptError, ServerError
from ..generation import Generation
from ..profile import HeadProfile
from ..prompts import Prompt
from ..spans import SpanStr
from ..streaming import TextStream

_OWN = ("alphas", "disable_steering", "timeout", "temperature")
_RENAMED = {"max_tokens": "max_new_tokens", "head_profile": "profile"}
# Code that makes hosted models sets these for every model; a model that runs here needs none.
_WITHOUT_EFFECT = {"max_retries"}


@dataclass(frozen=True)
class Call:
    """What one call asks of a steered model.

    Attributes:
        model: The model.
        arguments: Those of `SteeredModel.run`.
        alphas: For spans of these names, instead of their own.
        disable_steering: Read every prompt as if nothing in it were emphasized.
        timeout: Longest time for an answer, in seconds.
    """

    model: EmphasisModel = field(compare=False)
    arguments: Mapping[str, Any]
    alphas: Mapping[str, float] = field(default_factory=dict)
    disable_steering: bool = False
    timeout: float | None = None

    def run(self, prompts: Sequence[Prompt], **more: Any) -> list[Generation]:
        """Answer prompts in one batch.

        Raises:
            AnswerTimeoutError: It took too long.
            PastaError: As `SteeredModel.run` does.
        """
        began = time.monotonic()
        found = self.model.run([*map(self._read, prompts)], **self.arguments, **more)
        self._check_time(began)
        return found

    async def arun(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Answer prompts in one batch. Cancelling it stops the model."""
        began = time.monotonic()
        found = await self.model.arun([*map(self._read, prompts)], **self.arguments)
        self._check_time(began)
        return found

    def stream(self, prompt: Prompt) -> TextStream:
        """Answer one prompt, piece by piece."""
        return self.model.stream(self._read(prompt), **self.arguments)

    def pieces(self, stream: TextStream) -> Iterator[str]:
        """The text of a stream that was begun just now."""
        began = time.monotonic()
        yield from stream
        self._check_time(began)

    async def apieces(self, stream: TextStream) -> AsyncIterator[str]:
        """The text of a stream that was begun just now."""
        began = time.monotonic()
        async with aclosing(stream.pieces()) as pieces:
            async for piece in pieces:
                yield piece
        self._check_time(began)

    def _check_time(self, began: float) -> None:
        if self.timeout is not None and time.monotonic() - began >= self.timeout:
            raise AnswerTimeoutError(
                f"The answer was not there after {self.timeout:g} s. Raise timeout, or lower "
                "max_new_tokens."
            )

    def _read(self, prompt: Prompt) -> Prompt:
        """The prompt with the emphasis that this call wants."""
        if isinstance(prompt, str):
            return self._read_texts([prompt])[0]
        texts = self._read_texts([message["content"] for message in prompt])
        return [{**one, "content": text} for one, text in zip(prompt, texts, strict=True)]

    def _read_texts(self, texts: Sequence[str]) -> list[str]:
        marked = [text if isinstance(text, SpanStr) else SpanStr(text) for text in texts]
        if self.disable_steering:
            return [text.text for text in marked]
        for name, alpha in self.alphas.items():
            names = [{span.name for span in text.spans} for text in marked]
            if not any(name in own for own in names):
                named = sorted({one for own in names for one in own if one is not None})
                raise EmphasisError(
                    f"alphas names {name!r}, but the prompt has no span of that name. Named spans: "
                    f"{', '.join(named) or 'none'}."
                )
            marked = [
                text.with_alpha(alpha, name) if name in own else text
                for text, own in zip(marked, names, strict=True)
            ]
        return [*marked]


def _connected(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a model with the model that `base_url` leads to."""
    url, key = values.get("base_url"), values.get("api_key")
    if url is None or isinstance(values.get("model"), EmphasisModel):
        return values
    retries = values.get("max_retries")
    model = connect(
        url,
        key.get_secret_value() if isinstance(key, SecretStr) else key,
        **({} if retries is None else {"retries": retries}),
    )
    if values.get("model") not in (None, model.name):
        raise ServerError(
            f"model is {values['model']!r}, and the server at {url} has {model.name!r}. Leave "
            "model out."
        )
    return {**values, "model": model}


class PastaFields(BaseModel):
    """Fields of a model; each but `model` may also be an argument of a call.

    Attributes:
        model: The loaded model, or one on a server; several instances may share one.
        base_url: Where a vLLM server with the model is, instead of `model`.
        api_key: What that server was started with, if it was.
        head_profile: The heads to steer instead of the model's; as `SteeredModel`'s profile.
        alpha: Instead of the profile's; None keeps it.
        alphas: For spans of these names (`<% emphasize name="facts" %>`), instead of their own.
        disable_steering: Read every prompt as if nothing in it were emphasized.
        max_new_tokens: Longest answer; None for the model's default. Also `max_tokens`.
        temperature: Of sampling; 0 takes the likeliest token, None leaves it to the model.
        seed: Of sampling.
        stop: Texts that end an answer. Also `stop_sequences`.
        timeout: Longest time for an answer, in seconds.
        generation_arguments: For transformers' `generate`, such as `{"num_beams": 4}`.
    """

    model: EmphasisModel = Field(exclude=True)
    base_url: str | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True)
    head_profile: HeadProfile | str | Path | None = Field(default=None, exclude=True)
    alpha: float | None = None
    alphas: dict[str, float] = Field(default_factory=dict)
    disable_steering: bool = False
    max_new_tokens: int | None = Field(
        default=None, validation_alias=AliasChoices("max_new_tokens", "max_tokens")
    )
    temperature: float | None = None
    seed: int | None = None
    stop: list[str] | None = Field(
        default=None, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    timeout: float | None = None
    generation_arguments: dict[str, Any] = Field(default_factory=dict)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        """LangChain's own classes ignore fields that do not exist."""
        names: set[str] = set()
        for name, described in cls.model_fields.items():
            aliases = described.validation_alias or described.alias
            names |= {name, *(aliases.choices if isinstance(aliases, AliasChoices) else [aliases])}
        unknown = sorted(set(values) - names - _WITHOUT_EFFECT)
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no field {unknown[0]!r}. Arguments of transformers' generate "
                "go into generation_arguments."
            )
        values = _connected(values)
        if isinstance(values.get("model"), str | Path):
            raise ValueError(
                f"model is a name, {str(values['model'])!r}. Load it first: "
                "SteeredModel.from_pretrained(name, profile=…); or give the base_url of a server."
            )
        return {name: value for name, value in values.items() if name not in _WITHOUT_EFFECT}

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """All that an answer depends on."""
        profile = self.model.profile if self.head_profile is None else self.head_profile
        if profile is not None:
            profile = self.model.read_profile(profile)
        return {
            "model": self.model.name,
            "base_url": self.base_url,
            "heads": {str(k): list(v) for k, v in profile.heads.items()} if profile else None,
            "alpha": self.alpha if self.alpha is not None else profile and profile.alpha,
            "alphas": self.alphas,
            "disable_steering": self.disable_steering,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stop": self.stop,
            "generation_arguments": self.generation_arguments,
        }

    def _call(self, stop: list[str] | None, given: Mapping[str, Any]) -> Call:
        """What a call with arguments of its own asks for."""
        own = {name: given.get(name, getattr(self, name)) for name in _OWN}
        arguments: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "alpha": self.alpha,
            "seed": self.seed,
            "profile": self.head_profile,
            "stop": self.stop or (),
            **self.generation_arguments,
            **{_RENAMED.get(name, name): given[name] for name in given if name not in _OWN},
        }
        if stop:
            arguments["stop"] = stop
        temperature, timeout = own["temperature"], own["timeout"]
        if temperature is not None:
            if not isinstance(temperature, int | float) or not 0 <= temperature < float("inf"):
                raise PromptError(f"temperature is {temperature!r}; it must be 0 or more.")
            sampled = {"do_sample": True, "temperature": float(temperature)}
            arguments |= sampled if temperature else {"do_sample": False}
        if timeout is not None:
            if not isinstance(timeout, int | float) or not timeout > 0:
                raise PromptError(f"timeout is {timeout!r}; it must be a number of seconds.")
            arguments["max_time"] = timeout
        return Call(self.model, arguments, own["alphas"], own["disable_steering"], timeout)
