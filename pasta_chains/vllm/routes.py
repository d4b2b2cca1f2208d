"""What clients ask a server before they trust it with emphasis."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from .. import __version__
from ..wire import KEY, VERSION
from . import metrics
from .frontend import reader_of
from .guard import Guard
from .reading import Reader
from .settings import heads_of, layers_of


def with_routes(original: Callable[..., None]) -> Callable[..., None]:
    """Wraps what adds the server's routes."""

    def register_api_routers(
        args: Any, app: Any, supported_tasks: Any, model_config: Any = None
    ) -> None:
        original(args, app, supported_tasks, model_config)
        given = getattr(args, "additional_config", None) or {}
        if given.get(KEY):  # what else the setting says is checked where the engine is configured
            router = APIRouter(prefix=f"/v1/{KEY}")
            router.add_api_route("", about)
            router.add_api_route("/tokenizer", tokenizer)
            app.include_router(router)
            app.add_middleware(Guard, refused=metrics.REJECTED.inc)
            _repeat(app, "/v1/completions", f"/v1/{KEY}/completions")

    return register_api_routers


def _repeat(app: Any, path: str, other: str) -> None:
    """Have a route of vLLM's under another path, too, which a server that does not steer lacks."""
    (route,) = [one for one in app.routes if getattr(one, "path", None) == path]
    app.add_api_route(other, route.endpoint, methods=["POST"], dependencies=route.dependencies)


def about(request: Request) -> dict[str, Any]:
    """What the server steers, and in which versions of the schema it can be told."""
    state = request.app.state
    reader = _reader(request)
    model = state.vllm_config.model_config
    return {
        "version": __version__,
        "schema": VERSION,
        "model": state.openai_serving_models.base_model_paths[0].name,
        "context_length": model.max_model_len,
        "layers": layers_of(model),
        "heads": heads_of(model),
        "generation": model.try_get_generation_config(),
        "digest": reader.settings.digest,
        "profile": reader.settings.profile.to_dict(),
    }


def tokenizer(request: Request) -> dict[str, str]:
    """The files of the model's tokenizer, its chat template included, by their names."""
    with tempfile.TemporaryDirectory() as folder:
        _reader(request).tokenizer.save_pretrained(folder)
        return {file.name: file.read_text("utf-8") for file in Path(folder).iterdir()}


def _reader(request: Request) -> Reader:
    found = reader_of(request.app.state.online_renderer)
    assert found is not None  # the routes are there only where the server steers
    return found
