"""Counters beside vLLM's own at /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter
from vllm.exceptions import VLLMValidationError

from ..errors import PastaError

STEERED = Counter("pasta_chains:steered_requests", "Requests whose prompt is read with emphasis.")
REJECTED = Counter("pasta_chains:rejected_requests", "Requests whose emphasis was refused.")


@contextmanager
def counted() -> Iterator[None]:
    """Counts a request whose emphasis is refused, which vLLM then answers with status 400."""
    try:
        yield
    except PastaError as error:
        REJECTED.inc()
        raise VLLMValidationError(str(error)) from error
