"""A cache whose keys know emphasis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache

from ..spans import SpanStr

# Arguments of a call that its answer does not depend on, and `stop`, which is in the key.
_NO_PART_OF_KEY = {"stop", "callbacks", "tags", "metadata", "run_name", "run_id"}


class EmphasisCache(BaseCache):
    """Another cache, for one call: emphasis and the call's arguments become part of the key.

    LangChain's key for text completion is the characters of the prompt and the model's fields.

    Args:
        cache: Where answers are kept.
        arguments: Of the call.
    """

    def __init__(self, cache: BaseCache, arguments: Mapping[str, Any]) -> None:
        self._cache = cache
        own = sorted((k, v) for k, v in arguments.items() if k not in _NO_PART_OF_KEY)
        self._arguments = repr(own) if own else ""

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answer to a prompt, if it is kept."""
        return self._cache.lookup(_key(prompt), llm_string + self._arguments)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        self._cache.update(_key(prompt), llm_string + self._arguments, return_val)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answer to a prompt, if it is kept."""
        return await self._cache.alookup(_key(prompt), llm_string + self._arguments)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        await self._cache.aupdate(_key(prompt), llm_string + self._arguments, return_val)

    def clear(self, **kwargs: Any) -> None:
        """Forget all answers."""
        self._cache.clear(**kwargs)


def _key(prompt: str) -> str:
    """The prompt itself where nothing is emphasized, as in every cache."""
    if not isinstance(prompt, SpanStr):
        return prompt
    return json.dumps(prompt.to_dict()) if prompt.spans else prompt.text
