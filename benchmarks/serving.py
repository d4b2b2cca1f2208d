"""What steering costs a server: `python benchmarks/serving.py --report docs/results/vllm-cost.md`.

A stock vLLM and one with the plugin run side by side and answer the same load in turns, so that
both meet the same machine. To be run in the environment of `make test-vllm`.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Annotated, Any

import httpx
import torch
import typer
from machine import processor, versions
from servers import vllm_server
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pasta_chains import HeadProfile
from pasta_chains.demo import MODEL
from pasta_chains.profile import FILE_NAME

OPTIONS = ("--dtype", "float32", "--max-model-len", "768", "--max-num-seqs", "32")
KINDS = {
    "stock, plain": ("stock", False),
    "plugin, plain": ("plugin", False),
    "plugin, steered": ("plugin", True),
}


@dataclass(frozen=True)
class Load:
    """What is asked in one turn.

    Attributes:
        requests: How many requests.
        at_once: How many of them are under way.
        prompt: Tokens of each prompt.
        answer: Tokens of each answer.
    """

    requests: int
    at_once: int
    prompt: int
    answer: int

    def bodies(self, vocabulary: int, seed: int, *, steered: bool) -> list[dict[str, Any]]:
        """The requests: prompts of random tokens, which share no beginning."""
        random = Random(seed)
        return [
            {
                "model": "served",
                "prompt": [random.randrange(10, vocabulary) for _ in range(self.prompt)],
                "max_tokens": self.answer,
                "ignore_eos": True,
                "temperature": 0,
                "vllm_xargs": {"pasta_chains": _emphasis(random, self.prompt)} if steered else None,
            }
            for _ in range(self.requests)
        ]


def _emphasis(random: Random, tokens: int) -> str:
    start = random.randrange(tokens // 2)
    spans = [[start, start + tokens // 5]]
    return json.dumps({"version": 1, "unit": "tokens", "spans": spans})


LOAD = Load(requests=32, at_once=16, prompt=256, answer=48)
"""Of the first turn; later ones have as many requests as fill their time."""


async def turn(url: str, bodies: list[dict[str, Any]], at_once: int) -> float:
    """Seconds that a server needs for requests."""
    room = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=None)) as client:

        async def one(body: dict[str, Any]) -> None:
            async with room:
                response = await client.post(f"{url}/v1/completions", json=body)
                response.raise_for_status()

        started = time.perf_counter()
        await asyncio.gather(*map(one, bodies))
        return time.perf_counter() - started


def save_model(folder: Path, layers: int) -> Path:
    """Write a random grouped-query Llama, and a profile that steers a tenth of its heads."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=2048,
        num_hidden_layers=layers, num_attention_heads=12, num_key_value_heads=4,
        max_position_embeddings=768,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    chosen = range(layers // 3, layers // 3 + max(layers // 4, 1))
    HeadProfile({layer: [0, 3, 5, 8, 10] for layer in chosen}).save(folder / FILE_NAME)
    return folder


def measure(model: Path, folder: Path, seconds: int, rounds: int) -> dict[str, Any]:
    """Tokens per second of each kind, and how many tokens each server's cache holds."""
    vocabulary = len(AutoTokenizer.from_pretrained(model))
    logs = {"stock": folder / "stock.log", "plugin": folder / "plugin.log"}
    with (
        vllm_server(model, logs["stock"], *OPTIONS, profile=None) as stock,
        vllm_server(model, logs["plugin"], *OPTIONS, profile=model / FILE_NAME) as plugin,
    ):
        urls = {"stock": stock, "plugin": plugin}
        rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
        load = LOAD
        for number in range(rounds + 1):  # the first one warms up
            order = list(KINDS.items())
            for kind, (server, steered) in order[number % 3 :] + order[: number % 3]:
                bodies = load.bodies(vocabulary, number, steered=steered)
                taken = asyncio.run(turn(urls[server], bodies, load.at_once))
                rates[kind].append(load.requests * load.answer / taken)
            if not number:
                warm = {kind: found.pop() for kind, found in rates.items()}
                load = replace(load, requests=round(warm["stock, plain"] * seconds / load.answer))
            typer.echo(f"{model.name}, turn {number} of {rounds}", err=True)
        cache = {name: _cache(log) for name, log in logs.items()}
    return {"rates": rates, "cache": cache}


def _cache(log: Path) -> int:
    """Tokens that a server's cache of 1 GiB holds, as it says when it starts."""
    found = re.search(r"KV cache size: ([\d,]+) tokens", log.read_text("utf-8", "replace"))
    assert found
    return int(found[1].replace(",", ""))


def rows(name: str, found: dict[str, Any]) -> list[str]:
    """Lines of the table: rates, and ratios turn by turn."""
    base = found["rates"]["stock, plain"]
    lines = []
    for kind, rates in found["rates"].items():
        ratios = [rate / other for rate, other in zip(rates, base, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        lines.append(
            f"| {name} | {kind} | {statistics.median(rates):.0f} | "
            f"{statistics.median(ratios):.3f} | {spread} |"
        )
    return lines


def main(
    rounds: Annotated[int, typer.Option(help="Turns of each kind.")] = 27,
    seconds: Annotated[int, typer.Option(help="About how long a turn takes.")] = 6,
    layers: Annotated[int, typer.Option(help="Of the random model.")] = 12,
    report: Annotated[Path | None, typer.Option(help="Write the page as Markdown.")] = None,
) -> None:
    """Measure, and print a table."""
    table, caches = [], []
    with tempfile.TemporaryDirectory() as folder:
        random = save_model(Path(folder) / "random-llama", layers)
        for name, model in (
            (f"random Llama, {layers} layers of 768", random),
            ("embedded model, 6 layers of 320", MODEL),
        ):
            found = measure(model, Path(folder), seconds, rounds)
            table += rows(name, found)
            stock, plugin = found["cache"]["stock"], found["cache"]["plugin"]
            steered = len(HeadProfile.load(model / FILE_NAME).heads)
            caches.append(f"| {name} | {steered} | {stock:,} | {plugin:,} | {stock / plugin:.3f} |")
    for line in [*table, *caches]:
        typer.echo(line)
    if report:
        report.write_text("\n".join(_page(seconds, rounds, table, caches)) + "\n", encoding="utf-8")


def _page(seconds: int, rounds: int, table: list[str], caches: list[str]) -> list[str]:
    return [
        "# What steering costs a vLLM server",
        "",
        "Two servers side by side, one with the plugin, answer the same load in turns: "
        f"for about {seconds} s, {LOAD.at_once} requests at once, prompts of {LOAD.prompt} tokens "
        f"that share no beginning, answers of {LOAD.answer}. Steered requests emphasize a fifth of "
        "their prompts. The ratio is to stock vLLM in the same turn: the median of all turns, and "
        "their range.",
        "",
        "| model | server and requests | tokens written per second | ratio | range |",
        "| --- | --- | ---: | ---: | --- |",
        *table,
        "",
        "Only layers with steered heads keep wider keys and values. Tokens in a cache of 1 GiB:",
        "",
        "| model | layers with steered heads | stock | plugin | memory per token |",
        "| --- | ---: | ---: | ---: | ---: |",
        *caches,
        "",
        "On this processor heads of 64 channels become 80 in the steered layers, the next size "
        "that its kernels take; with FlashAttention heads of 128 become 136. On a GPU: not "
        "measured.",
        "",
        f"Median of {rounds} turns, by `python benchmarks/serving.py --report "
        "docs/results/vllm-cost.md`: "
        f"{versions('pasta-chains', 'vllm', 'torch', 'transformers')}, float32, compiled; "
        f"{processor()}.",
    ]


if __name__ == "__main__":
    typer.run(main)
