"""The ways to run a server under which it must answer as `SteeredModel` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_INTERPRETER = Path(__file__).parent / "interpreter"

_EAGER = ("--enforce-eager", "--block-size", "32", "--max-model-len", "384")
_ROOM = ("--kv-cache-memory-bytes", "200000000")
# Too little for all requests that run, and steps too short for most prompts.
_CROWDED = (
    *(*_EAGER, *_ROOM, "--num-gpu-blocks-override", "24", "--max-num-batched-tokens", "64"),
    *("--max-num-seqs", "32", "--enable-prompt-tokens-details"),
)
_TWO_WORKERS = {"VLLM_CPU_OMP_THREADS_BIND": "0|1"}
_HITS = "vllm:prefix_cache_hits"
_PREEMPTIONS = "vllm:num_preemptions"
_ACCEPTED = "vllm:spec_decode_num_accepted_tokens"


@dataclass(frozen=True)
class Case:
    """One way to run a server.

    Attributes:
        model: Which of the models.
        options: Of `vllm serve`.
        happens: Counters of vLLM that tell that what the case is about came to pass.
        environment: Variables of the server.
        path: Where it finds further modules.
        steering: What it is told beside the profile.
    """

    model: str
    options: tuple[str, ...]
    happens: tuple[str, ...] = (_HITS,)
    environment: Mapping[str, str] = field(default_factory=dict)
    path: tuple[Path, ...] = ()
    steering: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "crowded": Case("random", _CROWDED, (_HITS, _PREEMPTIONS)),
    "crowded, embedded": Case("embedded", _CROWDED, (_HITS, _PREEMPTIONS)),
    "compiled, embedded": Case("embedded", ("--block-size", "32", *_ROOM)),
    "tensor parallel": Case(
        "random", (*_EAGER, *_ROOM, "--tensor-parallel-size", "2"), environment=_TWO_WORKERS
    ),
    # Compiled, for vLLM's workers on the CPU need the run of the model that goes before.
    "pipeline parallel": Case(
        "random",
        ("--block-size", "32", *_ROOM, "--pipeline-parallel-size", "2"),
        environment=_TWO_WORKERS,
    ),
    "drafts": Case(
        "random",
        (
            *(*_CROWDED, "--speculative-config"),
            '{"method": "ngram", "num_speculative_tokens": 3, '
            '"prompt_lookup_max": 2, "prompt_lookup_min": 1}',
        ),
        (_HITS, _PREEMPTIONS, _ACCEPTED),
    ),
    "V2 model runner": Case(
        "random",
        _CROWDED,
        (_HITS, _PREEMPTIONS),
        environment={"VLLM_USE_V2_MODEL_RUNNER": "1", "TRITON_INTERPRET": "1"},
        path=(_INTERPRETER,),
    ),
    "off": Case("random", (*_EAGER, *_ROOM), steering={"enabled": False}),
}
