"""That each engine steers the heads that its front end was started with.

Engines of data parallelism may run on other machines, with a command line of their own or without
this package; a stock engine would answer steered requests as if nothing in them were emphasized.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import ProfileError
from ..wire import KEY
from . import metrics
from .settings import Settings

DIGEST = "pasta_chains_digest"
"""Method that the plugin gives an engine: the digest of the profile that it steers with."""

_ASKED = "pasta_chains_asked"
_OTHER = (
    "An engine of this server does not steer the heads that the server was started with: install "
    "pasta-chains where it runs, and start it with the same --additional-config."
)


def asking(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wraps `add_request` of the front end, which asks its engines before it steers."""

    async def add_request(
        front: Any, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any
    ) -> Any:
        settings = Settings.of(front.vllm_config) if _is_steered(params) else None
        if settings is not None:
            with metrics.counted():
                await _check_engines(front, settings.digest)
        return await original(front, request_id, prompt, params, *args, **kwargs)

    return add_request


def _is_steered(params: Any) -> bool:
    return KEY in (getattr(params, "extra_args", None) or {})


async def _check_engines(front: Any, digest: str) -> None:
    client = front.engine_core
    engines = tuple(client.core_engines)  # which may become more
    if getattr(front, _ASKED, None) == engines:
        return
    try:
        told = await client.call_utility_all_async(DIGEST)
    except Exception as error:  # whatever an engine without the plugin says to a method it lacks
        raise ProfileError(_OTHER) from error
    if set(told) != {digest}:
        raise ProfileError(_OTHER)
    setattr(front, _ASKED, engines)


def received(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps what takes in a request, whose front end may have been started with other heads."""

    def preprocess_add_request(core: Any, request: Any) -> Any:
        told = (getattr(request.sampling_params, "extra_args", None) or {}).get(KEY)
        settings = Settings.of(core.vllm_config) if told is not None else None
        # Weights, or what a client sent to a front end that does not steer.
        digest = told.get("profile") if isinstance(told, dict) else None
        if (settings and settings.digest) != digest:
            raise ProfileError(_OTHER)
        return original(core, request)

    return preprocess_add_request
