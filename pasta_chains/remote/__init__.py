"""Models that run on a vLLM server with the plugin `pasta_chains.vllm`."""

from .model import RemoteModel

__all__ = ["RemoteModel"]
