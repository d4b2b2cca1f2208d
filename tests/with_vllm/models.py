"""The models that servers and tests load: a random one, made here, and the embedded one."""

from __future__ import annotations

from pathlib import Path

import tiny
import tool_templates

from pasta_chains import demo
from pasta_chains.profile import FILE_NAME, HeadProfile

EMBEDDED = Path(demo.MODEL)

_HEADS = {0: [1], 2: [0, 2, 3]}


def save_random(folder: Path) -> Path:
    """Writes a grouped-query Llama whose heads are as wide as vLLM's kernels take them."""
    tokenizer = tool_templates.tokenizer(tool_templates.HERMES)
    shape = {"vocab_size": len(tokenizer), "hidden_size": 128, "initializer_range": 0.08}
    tiny.llama(seed=3, context=512, **shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    HeadProfile(_HEADS, alpha=0.02).save(folder / FILE_NAME)
    return folder
