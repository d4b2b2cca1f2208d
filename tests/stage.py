"""The files that pages of the documentation speak of, as a reader would have them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import tiny
from transformers import Qwen3Config, Qwen3ForCausalLM

from pasta_chains import HeadProfile
from pasta_chains.profile import FILE_NAME

HEADS = HeadProfile({0: [1, 2]}, alpha=0.02)
VARIABLES = """\
documents: [{text: Ada is the keeper., trusted: true}, {text: Bo is the keeper.}]
question: Who is the keeper?
"""
CLUB = "The treasurer of the Okonjo club is"
PATTERN = "^[^aeiou]*[aeiou]?[^aeiou]*$"
"""What a random model writes has it now and then."""
EXAMPLE = {"example": "Tarn"}  # as a pattern is no answer to show


def mine(number: int) -> dict[str, Any]:
    """A question of one's own, which a random model answers right now and then."""
    prompt = f"Tarn {number} has a mayor, or not. Answer in words. Who is the mayor?"
    return {
        "prompt": prompt,
        "emphasize": ["Answer in words."],
        "metric": "regex",
        "answer": PATTERN,
    }


def _biography(number: int) -> dict[str, Any]:
    title = ("nurse", "judge", "poet")[number % 3]
    raw = f"Ada{number} Lowe is a {title} in Tarn. She works in the old hospital at night."
    return {"raw": raw, "name": [f"Ada{number}", "", "Lowe"], "title": title}


def fact(number: int) -> dict[str, Any]:
    """A row of CounterFact."""
    return {
        "case_id": number,
        "pararel_idx": 2796,
        "requested_rewrite": {
            "prompt": "The mayor of {} is",
            "relation_id": "P6",
            "target_new": {"str": ("Ada", "Bo")[number % 2], "id": "Q1"},
            "target_true": {"str": ("Tarn", "Marsh", "Lowe")[number % 3], "id": "Q2"},
            "subject": f"Tarn {number}",
        },
        "paraphrase_prompts": [f"Who? The mayor of Tarn {number}, it is", f"{number} He is led by"],
        "neighborhood_prompts": ["The mayor of Ember is"],
    }


def models(folder: Path) -> None:
    """A random model of one layer, and small ones under names that the pages use."""
    made = tiny.llama(context=1024, num_hidden_layers=1)
    made.generation_config.eos_token_id = [2, *range(60, 110)]  # answers are a few tokens long
    _save(made, folder / "MODEL")
    HEADS.save(folder / "MODEL" / FILE_NAME)
    _save(made, folder / "some" / "model")
    wide = {"hidden_size": 64, "num_attention_heads": 32, "num_key_value_heads": 32}
    _save(tiny.llama(num_hidden_layers=32, **wide), folder / "huggyllama" / "llama-7b")
    qwen = Qwen3Config(
        vocab_size=128, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    )  # fmt: skip
    _save(Qwen3ForCausalLM(qwen), folder / "Qwen" / "Qwen3-4B-Base")


def _save(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)


def lay_out(folder: Path, models: Path, *, rows: int) -> None:
    """Put everything into the folder in which a page is read.

    Args:
        folder: That one.
        models: Where `models` made them.
        rows: Of the paper's data.
    """
    shutil.copytree(models, folder, dirs_exist_ok=True)
    HEADS.save(folder / "heads.json")
    (folder / "variables.yaml").write_text(VARIABLES)
    (folder / "prompt.jinja").write_text("<% emphasize %>{{ question }}<% endemphasize %>")
    for data in ("DIR", "DATA"):
        (folder / data).mkdir()
    (folder / "DIR" / "minutes.txt").write_text(f"{CLUB} Yevgenia Prax.")
    (folder / "DIR" / "rumor.txt").write_text(f"{CLUB} Bartholomew Quist.")
    _lines(folder / "mine.jsonl", [mine(number) | EXAMPLE for number in range(600)])
    _lines(folder / "questions.jsonl", [mine(number) | EXAMPLE for number in range(12)])
    _lines(folder / "bios.jsonl", [_biography(number) for number in range(rows)])
    facts = json.dumps([fact(number) for number in range(rows)])
    (folder / "counterfact.json").write_text(facts)
    (folder / "DATA" / "counterfact.json").write_text(facts)


def _lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
