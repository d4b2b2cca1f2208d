"""What a worker does: steers the layers when the model is loaded, and writes each step's bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .attention import steer_layers
from .bias import Bias
from .settings import Settings

_STEERING = "pasta_chains_bias"


def loaded(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wraps `get_kv_cache_spec` of a model runner, which is called when the model is loaded."""

    def get_kv_cache_spec(runner: Any) -> Any:
        settings = Settings.of(runner.vllm_config)
        if settings is not None and not hasattr(runner, _STEERING):
            bias = Bias(
                _most_tokens(runner),
                runner.vllm_config.model_config.dtype,
                runner.device,
                shifted=settings.shifted,
            )
            bias.digest = settings.digest
            bias.heads = steer_layers(runner.get_model(), settings.profile.heads, bias)
            setattr(runner, _STEERING, bias)
        return original(runner)

    return get_kv_cache_spec


def steered_heads(worker: Any) -> tuple[str, dict[int, list[int]]] | None:
    """Digest and heads that a worker steers with; the engine asks each, wherever it runs."""
    bias = getattr(worker.model_runner, _STEERING, None)
    return None if bias is None else (bias.digest, bias.heads)


def _most_tokens(runner: Any) -> int:
    """Most tokens of a step, those included with which CUDA graphs fill up."""
    config = runner.vllm_config
    graphs = config.compilation_config.cudagraph_capture_sizes or [0]
    most = max(config.scheduler_config.max_num_batched_tokens, *graphs)
    # Sequence parallelism fills steps up to a multiple of the ranks.
    return int(most) + int(config.parallel_config.tensor_parallel_size)


def v1(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps `_prepare_inputs` of the V1 model runner."""

    def _prepare_inputs(runner: Any, scheduler_output: Any, num_scheduled_tokens: Any) -> Any:
        bias = getattr(runner, _STEERING, None)
        if bias is not None:
            batch = runner.input_batch
            bias.add(scheduler_output.scheduled_new_reqs, runner.requests)
            starts = batch.num_computed_tokens_cpu[: batch.num_reqs].tolist()
            counts = num_scheduled_tokens.tolist()
            bias.write(zip(batch.req_ids, starts, counts, strict=True))
        return original(runner, scheduler_output, num_scheduled_tokens)

    return _prepare_inputs


def v2(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps `prepare_inputs` of the V2 model runner."""

    def prepare_inputs(
        runner: Any,
        scheduler_output: Any,
        batch_req_state: Any,
        batch_desc: Any,
        num_active_loras: int,
    ) -> Any:
        bias = getattr(runner, _STEERING, None)
        if bias is not None:
            bias.add(scheduler_output.scheduled_new_reqs, runner.req_states.req_id_to_index)
            # Of a request that is answered already, this is the length of its prompt or more.
            starts = batch_req_state.num_computed_prefill_tokens_np.tolist()
            counts = batch_req_state.num_scheduled_tokens.tolist()
            bias.write(zip(batch_req_state.req_ids, starts, counts, strict=True))
        return original(runner, scheduler_output, batch_req_state, batch_desc, num_active_loras)

    return prepare_inputs
