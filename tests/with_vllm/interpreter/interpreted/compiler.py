"""Nothing is compiled."""

from __future__ import annotations

from typing import Any

from triton.backends import compiler


class Compiler(compiler.BaseBackend):
    """What Triton asks every backend for, and the interpreter never calls."""

    supports_target: Any = None
    hash: Any = None
    parse_options: Any = None
    add_stages: Any = None
    load_dialects: Any = None
    get_module_map: Any = None
