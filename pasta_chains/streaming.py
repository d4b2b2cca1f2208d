"""Text of a running generation, piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from queue import Queue
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, TextStreamer


class _Queued(TextStreamer):
    """Puts finished pieces of text into a queue."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, queue: Queue[Any]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]
        self._queue = queue

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._queue.put(text)


class _Cancelled(StoppingCriteria):
    """Stops every row once an event is set."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        stopped = self._event.is_set()
        return torch.full((len(input_ids),), stopped, device=input_ids.device, dtype=torch.bool)


def stream_text(
    generate: Callable[[TextStreamer, StoppingCriteria], object],
    tokenizer: PreTrainedTokenizerBase,
) -> Generator[str, None, None]:
    """Run `generate` in a thread and yield its text as it comes.

    Closing the iterator stops the generation and waits for it. An exception inside it is raised
    here.

    Args:
        generate: Called with the streamer and the stopping criteria to hand on.
        tokenizer: Decodes the tokens.
    """
    queue: Queue[str | BaseException | None] = Queue()
    cancelled = threading.Event()

    def work() -> None:
        outcome: BaseException | None = None
        try:
            generate(_Queued(tokenizer, queue), _Cancelled(cancelled))
        except BaseException as error:  # handed to the reader, who raises it
            outcome = error
        queue.put(outcome)

    thread = threading.Thread(target=work, name="pasta-stream", daemon=True)
    thread.start()
    try:
        while isinstance(piece := queue.get(), str):
            yield piece
        if piece is not None:
            raise piece
    finally:
        cancelled.set()
        thread.join()


def cut_at_stop(pieces: Generator[str, None, None], stop: Sequence[str]) -> Generator[str, None, None]:
    """Yield streamed text up to the first stop string, which is left out.

    Text that may be the start of a stop string is held back until that is known.
    """
    held = ""
    for piece in pieces:
        held += piece
        ends = [held.find(word) for word in stop if word in held]
        if ends:
            pieces.close()  # ends the generation
            if held[: min(ends)]:
                yield held[: min(ends)]
            return
        keep = max((_overlap(held, word) for word in stop), default=0)
        if len(held) > keep:
            yield held[: len(held) - keep]
            held = held[len(held) - keep :]
    if held:
        yield held


def _overlap(text: str, word: str) -> int:
    """Length of the longest end of `text` that begins `word`."""
    longest = min(len(text), len(word) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(word[:n])), 0)
