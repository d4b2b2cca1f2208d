"""Errors, as a visitor sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from ..errors import PastaError
from .editing import EditorError


@contextmanager
def told() -> Iterator[None]:
    """Shows a visitor what was wrong; everything else on the page stays as it is."""
    try:
        yield
    except PastaError as error:
        line = f" (line {error.line})" if isinstance(error, EditorError) and error.line else ""
        raise gr.Error(f"{error}{line}", duration=None, print_exception=False) from error
