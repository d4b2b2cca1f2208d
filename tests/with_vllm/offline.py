"""Run by test_offline.py: `vllm.LLM` with emphasis; prints the token ids of each answer as JSON."""

from __future__ import annotations

import json
import sys

from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt


def main() -> None:
    """Answer what stands in the standard input."""
    asked = json.load(sys.stdin)
    llm = LLM(
        asked["model"],
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        kv_cache_memory_bytes=200_000_000,
        additional_config={"pasta_chains": {"profile": asked["profile"]}},
    )
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in asked["prompts"]]
    params = [
        SamplingParams(temperature=0, max_tokens=asked["most"], extra_args=extra)
        for extra in asked["extra"]
    ]
    answers = llm.generate(prompts, params, use_tqdm=False)
    print(json.dumps([answer.outputs[0].token_ids for answer in answers]))


if __name__ == "__main__":
    main()
