"""Environments whose emphasis is the same, and variables with emphasis."""

from __future__ import annotations

from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from pasta_chains.spans import emphasize
from pasta_chains.template import EmphasizeExtension, Environment

ENVIRONMENTS: dict[str, jinja2.Environment] = {
    "ours": Environment(),
    "plain": jinja2.Environment(extensions=[EmphasizeExtension]),
    "sandboxed": SandboxedEnvironment(extensions=[EmphasizeExtension]),
    "asynchronous": Environment(enable_async=True),
}
"""The emphasis of each of them is the same."""

VARIABLES: dict[str, Any] = {
    "x": "ab cd",
    "n": 7,
    "docs": ["one", "two", "three"],
    "loud": "so " + emphasize("loud"),
    "louds": [emphasize("L1"), "p", emphasize("L2")],
}
