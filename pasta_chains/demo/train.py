"""Trains the embedded model: `python -m pasta_chains.demo.train --out DIR`.

Tokenizer, world and order of batches follow from the seed. A CPU is enough.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .batches import IGNORED, Batch, training_batches
from .tokenizer import train_tokenizer

CONTEXT = 768


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A new Llama-architecture decoder with random weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def training_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """Causal attention in plain bfloat16 matrix products.

    On CPUs the backward pass of the fused kernel takes five times as long at these lengths.
    Padding is on the right, so the causal mask hides it.
    """
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    query = (query * kwargs["scaling"]).to(torch.bfloat16)
    key = key.to(torch.bfloat16).repeat_interleave(groups, 1)
    value = value.to(torch.bfloat16).repeat_interleave(groups, 1)
    future = torch.full((length, length), -1e4, dtype=query.dtype, device=query.device).triu(1)
    share = torch._softmax(query @ key.transpose(-1, -2) + future, -1, False)
    return (share @ value).transpose(1, 2).contiguous(), None


class _Stream(IterableDataset[Batch]):
    """Lets a worker process draw the batches while the model trains."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def __iter__(self) -> Iterator[Batch]:
        return training_batches(**self.arguments)


def _optimizers(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inside else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate_factor(step: int, steps: int) -> float:
    """Warm up over 100 steps, stay, and fall to zero over the last 45 %."""
    return min(1.0, (step + 1) / 100, (steps - step) / (0.45 * steps))


def _loss(
    model: LlamaForCausalLM, decoder: Any, batch: Batch, other: float
) -> tuple[Tensor, Tensor]:
    """Loss of answers plus `other` times that of all other text; and the answers' tokens hit.

    The other text teaches what repeats in a context: a name in a question was in a document.
    """
    device = model.device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        hidden = decoder(input_ids=batch.ids.to(device), use_cache=False).last_hidden_state
        learned = batch.targets != IGNORED
        logits = model.lm_head(hidden[learned.to(device)]).float()
    wanted = batch.targets[learned].to(device)
    answers = batch.answers[learned].to(device)
    losses = nn.functional.cross_entropy(logits, wanted, reduction="none")
    hits = (logits.argmax(-1) == wanted)[answers].float().mean()
    return losses[answers].mean() + other * losses[~answers].mean(), hits


def train(
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 3700,
    tokens: Annotated[int, typer.Option(help="Tokens per step.")] = 6144,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Of world, weights and order.")] = 0,
) -> None:
    """Train the tokenizer and the model, and save both."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(context=CONTEXT, seed=seed)
    model = build_model(tokenizer)
    if torch.cuda.is_available():
        nn.Module.cuda(model)  # transformers wraps it in a way that loses its type
    else:
        AttentionInterface.register("training", training_attention)
        model.set_attn_implementation("training")
    torch._dynamo.config.recompile_limit = 32
    decoder = torch.compile(model.model, dynamic=False)
    stream = _Stream(tokenizer=tokenizer, steps=steps, tokens=tokens, seed=seed + 1)
    loader: Iterator[Batch] = iter(
        DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=16)
    )
    optimizers = _optimizers(model, rate)
    started = time.time()
    losses: list[float] = []
    right: list[float] = []
    for step, batch in enumerate(loader):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * _rate_factor(step, steps)
        # Most other text cannot be foretold: once copying has begun it is noise.
        loss, hits = _loss(model, decoder, batch, other=0.5 if step < 0.12 * steps else 0.05)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        right.append(hits.item())
        if not math.isfinite(losses[-1]):
            raise SystemExit(f"The loss at step {step} is {losses[-1]}; lower --rate.")
        if (step + 1) % 100 == 0:
            mean, share = sum(losses[-100:]) / 100, sum(right[-100:]) / 100
            minutes = (time.time() - started) / 60
            typer.echo(
                f"step {step + 1}: loss {mean:.3f}, tokens right {share:.3f}, {minutes:.1f} min"
            )
        if (step + 1) % 1000 == 0:
            save(model, tokenizer, out)
    save(model, tokenizer, out)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write model and tokenizer; weights in float16, to be read as float32."""
    copy.deepcopy(model).half().save_pretrained(out)
    config = json.loads((out / "config.json").read_text())
    config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    typer.run(train)
