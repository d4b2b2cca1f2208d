"""What a model makes of one prompt, as an object, as JSON and as a page to look at."""

from .making import inspect_prompt
from .report import PromptReport, ReadToken

__all__ = ["PromptReport", "ReadToken", "inspect_prompt"]
