"""Text of a running generation, piece by piece."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Sequence
from contextlib import closing
from queue import Queue
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from .errors import PromptError
from .overflow import Dropped

if TYPE_CHECKING:
    from .generation import Generation

Result = TypeVar("Result")


class Decoding:
    """Makes text of the tokens of an answer.

    Args:
        tokenizer: The model's.
        ends: The model's end tokens.
        special_tokens: Special tokens that stay in the text. The end token never does.

    Attributes:
        tokenizer: The model's.
        ends: The model's end tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: int | Sequence[int] | None = None,
        special_tokens: Collection[str] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.ends = frozenset([ends] if isinstance(ends, int) else ends or ())
        kept = {tokenizer.convert_tokens_to_ids(token) for token in special_tokens}
        self._left_out = set(tokenizer.all_special_ids) - kept | self.ends if kept else None

    def __call__(self, ids: Sequence[int]) -> str:
        """The text of new tokens."""
        if self._left_out is None:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        return str(self.tokenizer.decode([token for token in ids if token not in self._left_out]))

    def whole(self, ids: Sequence[int]) -> str:
        """The text of tokens, all special ones included."""
        return str(self.tokenizer.decode(list(ids)))


class GrowingText:
    """The text of tokens that come one after the other.

    Attributes:
        ids: The tokens so far.
    """

    def __init__(self, decode: Decoding) -> None:
        self.ids: list[int] = []
        self._decode = decode
        self._told = 0

    def feed(self, ids: Sequence[int]) -> str:
        """The new text that some more tokens make, as far as its characters are complete."""
        self.ids += ids
        text = self._text()
        if text.endswith("\N{REPLACEMENT CHARACTER}"):  # the next token may complete it
            return ""
        return self._new(text)

    def finish(self) -> str:
        """The text that was not told yet."""
        return self._new(self._text())

    def _text(self) -> str:
        # All of it: a tokenizer may write the first token of a text without its leading space.
        return self._decode(self.ids)

    def _new(self, text: str) -> str:
        new, self._told = text[self._told :], max(self._told, len(text))
        return new


class _Queued(BaseStreamer):
    """Puts new text into a queue as soon as its characters are complete."""

    def __init__(self, decode: Decoding, queue: Queue[Any]) -> None:
        self._text = GrowingText(decode)
        self._queue = queue
        self._is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        if not self._is_prompt:
            self._send(self._text.feed(value.tolist()))
        self._is_prompt = False

    def end(self) -> None:
        self._send(self._text.finish())

    def _send(self, text: str) -> None:
        if text:
            self._queue.put(text)


class StopStrings(StoppingCriteria):
    """Ends each row whose new text contains one of some texts.

    Unlike the one of transformers it looks at new text alone, so a text that begins in the prompt
    ends nothing.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], prompt_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
        self.stop = stop
        self._prompt_tokens = prompt_tokens

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        new = input_ids[:, self._prompt_tokens :].tolist()
        return torch.tensor(list(map(self._is_in, new)), device=input_ids.device)

    def length(self, new: Sequence[int]) -> int | None:
        """Number of tokens up to the one that completes a stop string, or None without one."""
        if not self._is_in(new):
            return None
        return bisect_left(range(len(new)), True, key=lambda count: self._is_in(new[:count]))

    def _is_in(self, new: Sequence[int]) -> bool:
        if not self.stop:
            return False
        # Special tokens included, for they may be what is to end the text.
        text = str(self._tokenizer.decode(list(new)))
        return any(word in text for word in self.stop)


class Cancelled(StoppingCriteria):
    """Stops every row once it is told to, from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._then: list[Callable[[], object]] = []

    def set(self) -> None:
        """Stop after the token that is being written."""
        self._event.set()
        for stop in self._then:
            stop()

    def then(self, stop: Callable[[], object]) -> None:
        """Call something when told to stop; at once, if that was so before."""
        self._then.append(stop)
        if self._event.is_set():
            stop()

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        stopped = self._event.is_set()
        return torch.full((len(input_ids),), stopped, device=input_ids.device, dtype=torch.bool)


class TextStream(Generator[str, None, None]):
    """The text of a running answer, piece by piece; closing it stops the model.

    Attributes:
        dropped: The ranges of the prompt's text that were left out to make it fit.
        dropped_tokens: By how many tokens that made it shorter.
    """

    def __init__(
        self,
        pieces: Generator[str, None, None],
        cancelled: Cancelled,
        ended: Sequence[Generation] = (),
        dropped: tuple[Dropped, ...] = (),
        dropped_tokens: int = 0,
    ) -> None:
        self._pieces = pieces
        self._cancelled = cancelled
        self._ended = ended
        self.dropped = dropped
        self.dropped_tokens = dropped_tokens

    def send(self, value: None, /) -> str:
        """The next piece."""
        return self._pieces.send(value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> str:
        """Raise an error where the stream is; it ends the generation."""
        return self._pieces.throw(error if value is None else value)

    @property
    def generation(self) -> Generation:
        """The whole answer and how it ended, once the stream has.

        Raises:
            PromptError: It has not ended yet.
        """
        if not self._ended:
            raise PromptError("The stream has not ended, so how it ends is not known yet.")
        return self._ended[0]

    def pieces(self) -> AsyncGenerator[str, None]:
        """The stream for asyncio. Cancelling or closing it stops the model."""
        return in_background(self)

    def cancel(self) -> None:
        """Stop the model soon, from any thread; the text then ends."""
        self._cancelled.set()

    def close(self) -> None:
        """Stop the model and wait for it."""
        self._pieces.close()


def stream_text(
    generate: Callable[[BaseStreamer], object],
    decode: Decoding,
    cancelled: Cancelled,
) -> Generator[str, None, None]:
    """Run `generate` in a thread and yield its text as it comes.

    Closing the iterator stops the generation and waits for it. An exception inside it is raised
    here.

    Args:
        generate: Called with the streamer to hand on.
        decode: Makes text of tokens.
        cancelled: Among the stopping criteria of `generate`.
    """
    queue: Queue[str | BaseException | None] = Queue()

    def work() -> None:
        outcome: BaseException | None = None
        try:
            generate(_Queued(decode, queue))
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


def cut_at_stop(
    pieces: Generator[str, None, None], stop: Sequence[str]
) -> Generator[str, None, None]:
    """Yield streamed text up to the first stop string, which is left out.

    Text that may be the start of a stop string is held back until that is known.
    """
    until = UntilStop(stop)
    with closing(pieces):  # which ends the generation, whenever this ends
        for piece in pieces:
            if shown := until.feed(piece):
                yield shown
            if until.stopped:
                break
    if held := until.finish():
        yield held


class UntilStop:
    """Text up to the first stop string, piece by piece.

    Attributes:
        stopped: Whether a stop string has come.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stopped = False
        self._stop = stop
        self._held = ""

    def feed(self, piece: str) -> str:
        """What some more text lets show, without what may be the start of a stop string."""
        if self.stopped:
            return ""
        held = self._held + piece
        ends = [held.find(word) for word in self._stop if word in held]
        self.stopped = bool(ends)
        keep = max((_overlap(held, word) for word in self._stop), default=0)
        cut = min(ends) if ends else len(held) - keep
        self._held = "" if ends else held[cut:]
        return held[:cut]

    def finish(self) -> str:
        """What was held back, once nothing more comes."""
        return self._held


def _overlap(text: str, word: str) -> int:
    """Length of the longest end of `text` that begins `word`."""
    longest = min(len(text), len(word) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(word[:n])), 0)


async def in_background(stream: TextStream) -> AsyncGenerator[str, None]:
    """The pieces of a stream, waited for in a thread.

    Cancelling or closing it stops the model and waits until it is free.
    """
    pending: asyncio.Future[str | None] | None = None
    try:
        while True:
            pending = asyncio.ensure_future(asyncio.to_thread(next, stream, None))
            piece = await asyncio.shield(pending)
            if piece is None:
                return
            yield piece
    finally:
        stream.cancel()
        if pending is not None:
            await asyncio.wait([pending])  # a generator that is running cannot be closed
        await asyncio.to_thread(stream.close)


async def until_cancelled(work: Callable[[], Result], cancelled: Cancelled) -> Result:
    """Run `work` in a thread; if the task is cancelled, stop it and wait for it."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([running])
        raise
