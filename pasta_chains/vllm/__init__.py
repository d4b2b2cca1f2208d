"""A plugin for vLLM: a server that steers each request by its own emphasis.

    vllm serve MODEL --additional-config '{"pasta_chains": {"profile": "heads.json"}}'

vLLM finds it by its entry point. Without a profile nothing is changed.
"""

from __future__ import annotations


def register() -> None:
    """What vLLM calls in each of its processes, before it knows its configuration."""
    from .hooks import install

    install()
