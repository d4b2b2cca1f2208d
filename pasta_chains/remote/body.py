"""From what one call asks to the body of a request to `/v1/completions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..asked import Asked
from ..errors import PromptError
from ..generation import check_seed
from ..profile import HeadProfile
from ..prompts import TokenizedPrompt
from ..streaming import Cancelled
from ..wire import KEY, Emphasis, token_marks

# Names of transformers and those of vLLM, which has them all for itself too.
_RENAMED = {"min_new_tokens": "min_tokens", "num_return_sequences": "n", "max_time": "timeout"}
_SAMPLING = ("temperature", "top_p", "top_k", "min_p")
_SAME = (
    *("repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias", "bad_words"),
    *("priority", "cache_salt", "ignore_eos", "allowed_token_ids"),
)
# The openai client has arguments for these; the others are vLLM's, in `extra_body`.
_OPENAI = {
    *("model", "prompt", "max_tokens", "stop", "seed", "n", "logprobs", "temperature", "top_p"),
    *("presence_penalty", "frequency_penalty", "logit_bias", "timeout", "extra_headers"),
}
_TOP_K = 50  # of transformers, where nobody says otherwise


def completion_bodies(
    asked: Asked, about: Mapping[str, Any], most: Sequence[int]
) -> list[dict[str, Any]]:
    """One request for each prompt, as arguments of the openai client.

    Args:
        asked: What the call asks.
        about: What the server said of itself.
        most: For each prompt, the longest answer.

    Raises:
        PromptError: It asks for something that vLLM cannot do.
    """
    check_seed(asked.seed)
    options = {**_sampled(asked, about["generation"]), **_options(asked)}
    bodies = []
    for prompt, length in zip(asked.prompts, most, strict=True):
        fields = {
            "model": about["model"],
            "prompt": prompt.ids,
            "max_tokens": length,
            "stop": asked.stop or None,
            "seed": asked.seed,
            "vllm_xargs": _emphasis(prompt, about, asked.profile, asked.alpha),
            # The text is made here, as for a model that runs here.
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            **options,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        body = {name: value for name, value in given.items() if name in _OPENAI}
        body["extra_body"] = {name: given[name] for name in given.keys() - _OPENAI}
        bodies.append(body)
    return bodies


def cancellations(asked: Asked) -> list[Cancelled]:
    """What may end the call from outside.

    Raises:
        PromptError: A stopping criterion is one that looks at tokens, which a server cannot call.
    """
    given = list(asked.arguments.get("stopping_criteria") or ())
    if not all(isinstance(one, Cancelled) for one in given):
        raise PromptError("stopping_criteria cannot be sent to a server. Use stop.")
    return given


def scoring_body(
    prompt: TokenizedPrompt,
    answer: list[int],
    about: Mapping[str, Any],
    profile: HeadProfile,
    alpha: float,
) -> dict[str, Any]:
    """A request that tells how likely an answer is after a prompt, as for `completion_bodies`."""
    more = {
        "prompt_logprobs": 0,
        "vllm_xargs": _emphasis(prompt, about, profile, alpha, len(answer)),
    }
    return {
        "model": about["model"],
        "prompt": prompt.ids + answer,
        "max_tokens": 1,
        "temperature": 0.0,
        "extra_body": {name: value for name, value in more.items() if value is not None},
    }


def _emphasis(
    prompt: TokenizedPrompt,
    about: Mapping[str, Any],
    profile: HeadProfile | None,
    alpha: float,
    answered: int = 0,
) -> dict[str, str] | None:
    """The emphasis of a prompt, and of so many tokens of an answer after it, over the wire."""
    if not profile or not len(profile) or not prompt.is_steered:
        return None
    marks = token_marks(prompt.text, prompt.offsets)
    strengths = [mark[2] or alpha for mark in marks if not mark[4]]
    if answered and strengths:  # an answer is read like the strongest text
        end = len(prompt.ids)
        marks.append([end, end + answered, min(strengths)])
    told = Emphasis(version=1, unit="tokens", spans=marks, alpha=alpha, profile=about["digest"])
    return {KEY: told.dump()}


def _options(asked: Asked) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in asked.arguments.items():
        if name in _RENAMED or name in _SAME:
            options[_RENAMED.get(name, name)] = value
        elif name not in ("do_sample", "stopping_criteria", *_SAMPLING):
            raise PromptError(
                f"{name} cannot be sent to a vLLM server. It takes do_sample, "
                f"{', '.join([*_SAMPLING, *_RENAMED, *_SAME])}."
            )
    if asked.logprobs is not False and asked.logprobs is not None:
        if not isinstance(asked.logprobs, int) or asked.logprobs < 0:
            raise PromptError(
                f"logprobs is {asked.logprobs!r}; it must be True, False, or how many of the "
                "likeliest tokens to tell in each place."
            )
        options["logprobs"] = 0 if asked.logprobs is True else asked.logprobs
    if asked.structure is not None:
        options["structured_outputs"] = dict(asked.structure.told)
    return options


def _sampled(asked: Asked, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """How tokens are drawn; vLLM would draw by chance where transformers takes the likeliest."""
    given = {**defaults, **asked.arguments}
    if not given.get("do_sample", False):
        return {"temperature": 0.0}
    return {
        "temperature": float(given.get("temperature") or 1.0),
        "top_p": given.get("top_p"),
        "top_k": _TOP_K if given.get("top_k") is None else given["top_k"],
        "min_p": given.get("min_p"),
    }
