"""The command `pasta-chains`: parse, call, print."""

from . import models, prompts, tasks  # each adds its commands
from .app import app, main

__all__ = ["app", "main", "models", "prompts", "tasks"]
