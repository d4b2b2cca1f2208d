"""A page in the browser: write a prompt with emphasis, and see what a model makes of it.

`pasta-chains playground` starts it. It needs the extra `ui`.
"""

from ..errors import MissingExtraError

try:
    import gradio as _gradio  # noqa: F401  (the name of the extra is told here, once)
except ImportError as error:
    raise MissingExtraError(error.name or "gradio", "ui") from error

from .app import launch

__all__ = ["launch"]
