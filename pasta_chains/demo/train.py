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
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from .batches import IGNORED, Batch, training_batches
from .grow import grow
from .tokenizer import train_tokenizer

CONTEXT = 768
NEW_LAYER = 3
"""Which layer a smaller model does not have."""

_ROWS = 256


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A new Llama-architecture decoder with random weights.

    Half of a head's channels turn so slowly that names match at any distance.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=320,
        intermediate_size=896,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def training_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """Causal attention in plain matrix products, in bfloat16 where the processor has it.

    On CPUs the backward pass of the fused kernel takes five times as long at these lengths.
    Padding is on the right, so the causal mask hides it. Some queries at a time, so that none is
    multiplied with all the keys that come after it.
    """
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    query = query * kwargs["scaling"]
    if _has_bfloat16(query.device):
        query, key, value = (x.to(torch.bfloat16) for x in (query, key, value))
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    future = torch.full((length, length), -1e4, dtype=query.dtype, device=query.device).triu(1)
    read = []
    for start in range(0, length, _ROWS):
        rows, seen = slice(start, start + _ROWS), slice(0, start + _ROWS)
        scores = query[:, :, rows] @ key[:, :, seen].transpose(-1, -2) + future[rows, seen]
        read.append(torch._softmax(scores, -1, False) @ value[:, :, seen])
    return torch.cat(read, 2).transpose(1, 2).contiguous(), None


def _has_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are fast: elsewhere a CPU takes a hundred times as long."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def _compiled(model: LlamaForCausalLM) -> Any:
    """The layers of a model, compiled for the machine at hand."""
    if torch.cuda.is_available():
        nn.Module.cuda(model)  # transformers wraps it in a way that loses its type
    else:
        AttentionInterface.register("training", training_attention)
        model.set_attn_implementation("training")
    torch._dynamo.config.recompile_limit = 32
    return torch.compile(model.model, dynamic=False)


class _Stream(IterableDataset[Batch]):
    """Lets a worker process draw the batches while the model trains."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def __iter__(self) -> Iterator[Batch]:
        return training_batches(**self.arguments)


def _orthogonalize(
    grad: Tensor, ns_coefficients: tuple[float, float, float], ns_steps: int, eps: float
) -> Tensor:
    """Muon's Newton-Schulz iteration in float32.

    torch's own works in bfloat16, which takes thirty times as long where a CPU does not have it.
    """
    a, b, c = ns_coefficients
    tall = grad.shape[0] > grad.shape[1]
    update = grad.T if tall else grad
    update = update / update.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = update @ update.T
        update = torch.addmm(update, torch.addmm(gram, gram, gram, beta=b, alpha=c), update, beta=a)
    return update.T if tall else update


def _optimizers(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    if not _has_bfloat16(next(model.parameters()).device):
        torch.optim._muon._zeropower_via_newtonschulz = _orthogonalize
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inside else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate_factor(progress: float, taken: int) -> float:
    """Warm up over 100 steps, stay, and fall to zero over the last 47 %."""
    return min(1.0, (taken + 1) / 100, (1 - progress) / 0.47)


def _other_weight(progress: float) -> float:
    """Weight of all text that is not an answer; most of it cannot be foretold.

    It is what makes copying begin; from then on it is noise.
    """
    if progress < 0.075:
        return 0.5
    return 0.05 if progress < 0.375 else 0.0


def _loss(
    model: LlamaForCausalLM, decoder: Any, batch: Batch, other: float
) -> tuple[Tensor, Tensor]:
    """Loss of answers plus `other` times that of all other text; and the answers' tokens hit.

    The other text teaches what repeats in a context: a name in a question was in a document.
    """
    device = model.device
    fast = _has_bfloat16(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast):
        hidden = decoder(input_ids=batch.ids.to(device), use_cache=False).last_hidden_state
        learned = batch.targets != IGNORED if other else batch.answers
        logits = model.lm_head(hidden[learned.to(device)]).float()
    wanted = batch.targets[learned].to(device)
    answers = batch.answers[learned].to(device)
    losses = nn.functional.cross_entropy(logits, wanted, reduction="none")
    hits = (logits.argmax(-1) == wanted)[answers].float().mean()
    loss = losses[answers].mean()
    return loss + other * losses[~answers].mean() if other else loss, hits


def _learn(model: nn.Module, optimizers: list[torch.optim.Optimizer], loss: Tensor) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def train(
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 7600,
    tokens: Annotated[int, typer.Option(help="Tokens per step.")] = 6144,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Of world, weights and order.")] = 0,
    start: Annotated[int, typer.Option(help="Go on from the model in --out, at this step.")] = 0,
    smaller: Annotated[
        Path | None, typer.Option(help="Grow the model in this folder, and go on from there.")
    ] = None,
) -> None:
    """Train the tokenizer and the model, and save both."""
    torch.manual_seed(seed)
    tokenizer, model = _begin(out, start, smaller, seed)
    model.train()
    decoder = _compiled(model)
    stream = _Stream(tokenizer=tokenizer, steps=steps, tokens=tokens, seed=seed + 1, start=start)
    loader: Iterator[Batch] = iter(
        DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=16)
    )
    optimizers = _optimizers(model, rate)
    started = time.time()
    losses: list[float] = []
    right: list[float] = []
    for step, batch in enumerate(loader, start):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * _rate_factor(step / steps, step - start)
        loss, hits = _loss(model, decoder, batch, other=_other_weight(step / steps))
        _learn(model, optimizers, loss)
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
        if (step + 1) % 500 == 0:
            save(model, tokenizer, out)
    save(model, tokenizer, out)


def _begin(
    out: Path, start: int, smaller: Path | None, seed: int
) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    if smaller is not None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(smaller)
        model = build_model(tokenizer)
        grow(LlamaForCausalLM.from_pretrained(smaller), model, new_layer=NEW_LAYER)
        return tokenizer, model
    if start:
        return (
            PreTrainedTokenizerFast.from_pretrained(out),
            LlamaForCausalLM.from_pretrained(out),
        )
    tokenizer = train_tokenizer(context=CONTEXT, seed=seed)
    return tokenizer, build_model(tokenizer)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write model and tokenizer; weights in float16, to be read as float32."""
    copy.deepcopy(model).half().save_pretrained(out)
    config = json.loads((out / "config.json").read_text())
    config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    typer.run(train)
