"""Text piece by piece: whole characters, stop strings cut, and no thread left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest
import tiny
import torch

from pasta_chains.streaming import (
    Cancelled,
    Decoding,
    StopStrings,
    TextStream,
    cut_at_stop,
    in_background,
    stream_text,
    until_cancelled,
)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pasta-stream"]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterable[None]:
    yield
    assert threads() == []


def writes(ids: list[int], error: Exception | None = None) -> Callable[[Any, Any], None]:
    """A `generate` that writes some tokens, and then ends, fails or is stopped."""

    def generate(streamer: Any, stopping: Any) -> None:
        streamer.put(torch.tensor([[1, 50, 60]]))
        for count in range(len(ids)):
            if stopping(torch.zeros(1, 3 + count), None).all():
                return
            streamer.put(torch.tensor([ids[count]]))
        if error:
            raise error
        streamer.end()

    return generate


def streamed(
    tokenizer: Any, ids: list[int], error: Exception | None = None
) -> Generator[str, None, None]:
    stopping = Cancelled()
    write = writes(ids, error)
    return stream_text(lambda streamer: write(streamer, stopping), Decoding(tokenizer), stopping)


@pytest.mark.parametrize("make", [tiny.tokenizer, tiny.metaspace_tokenizer])
@pytest.mark.parametrize(
    "text",
    ["The mayor of Tarn is\nAda Lowe.", "\n words after\n a line", "é🙂 🙂", "a\n\n b", "", " "],
)
def test_the_pieces_are_the_whole_text_without_the_prompt(
    make: Callable[[], Any], text: str
) -> None:
    tokenizer = make()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True)
    pieces = list(streamed(tokenizer, [*ids, tokenizer.eos_token_id]))
    assert "".join(pieces) == whole
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert "" not in pieces


def test_a_text_that_ends_inside_a_character_is_given_out_at_the_end() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer("Tarn🙂", add_special_tokens=False)["input_ids"]
    *before, last = streamed(tokenizer, ids[:-1])
    assert "".join(before) == "Tarn"
    assert set(last) == {"\N{REPLACEMENT CHARACTER}"}


def test_an_error_comes_after_the_pieces_before_it() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer("Tarn is", add_special_tokens=False)["input_ids"]
    pieces = streamed(tokenizer, ids, ZeroDivisionError("late"))
    assert "".join(next(pieces) for _ in ids) == "Tarn is"
    with pytest.raises(ZeroDivisionError, match="late"):
        next(pieces)
    assert list(pieces) == []


def test_closing_stops_the_generation_and_waits_for_it() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer("The mayor of Tarn", add_special_tokens=False)["input_ids"]
    pieces = streamed(tokenizer, ids * 100_000)
    assert next(pieces) == "The"
    assert len(threads()) == 1
    pieces.close()


def test_nothing_runs_before_the_first_piece_is_asked_for() -> None:
    pieces = streamed(tiny.tokenizer(), [5])
    assert threads() == []
    pieces.close()


@pytest.mark.parametrize(
    ("pieces", "stop", "text"),
    [
        (["ab", "cd"], [], "abcd"),
        (["ab", "cd"], ["x"], "abcd"),
        (["ab", "cd"], ["b"], "a"),
        (["ab", "cd"], ["bc"], "a"),
        (["a", "b", "c", "d"], ["abc"], ""),
        (["a", "ab", "c"], ["abc"], "a"),
        (["aab", "ab"], ["abab"], "a"),
        (["ab"], ["bcd"], "ab"),
        (["abcd"], ["cd", "b"], "a"),
        (["ab", "ab"], ["bab", "ba"], "a"),
        (["ab", "\n", "\n"], ["\n\n"], "ab"),
        ([], ["a"], ""),
    ],
)
def test_text_is_cut_at_the_first_stop_string(
    pieces: list[str], stop: list[str], text: str
) -> None:
    found = list(cut_at_stop((piece for piece in pieces), stop))
    assert "".join(found) == text
    assert "" not in found


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    asked = []

    def pieces() -> Generator[str, None, None]:
        for piece in ("ab", "c", "x", "cd", "never"):
            asked.append(piece)
            yield piece

    cut = cut_at_stop(pieces(), ["cd"])
    assert [next(cut), next(cut)] == ["ab", "cx"]
    assert list(cut) == []
    assert asked == ["ab", "c", "x", "cd"]


def test_closing_the_cut_text_closes_what_it_cuts() -> None:
    closed = []

    def pieces() -> Generator[str, None, None]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    source = pieces()
    cut = cut_at_stop(source, [])
    assert next(cut) == "a"
    cut.close()
    assert closed == [True]


def test_stop_strings_end_a_row_once_its_new_text_holds_one() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer("Tarn is Tarn", add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode(token) for token in ids] == ["T", "arn", " is", " Tarn"]
    rows = torch.tensor([ids, ids[::-1]])
    assert StopStrings(tokenizer, ["is T"], 0)(rows, None).tolist() == [True, False]
    # "T" is the prompt's: what begins there ends nothing.
    assert StopStrings(tokenizer, ["Tarn is"], 1)(rows, None).tolist() == [False, False]


@pytest.mark.parametrize(
    ("stop", "length"),
    [(["Ta"], 2), (["T", "is"], 1), (["n is"], 3), (["x"], None), (["</s>"], 5), ([], None)],
)
def test_the_length_up_to_a_stop_string_counts_the_token_that_completes_it(
    stop: list[str], length: int | None
) -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer("Tarn is Tarn</s>", add_special_tokens=False)["input_ids"]
    assert StopStrings(tokenizer, stop, 0).length(ids) == length


def background(ids: list[int]) -> TextStream:
    stopping = Cancelled()
    write = writes(ids)
    decode = Decoding(tiny.tokenizer())
    pieces = stream_text(lambda streamer: write(streamer, stopping), decode, stopping)
    return TextStream(pieces, stopping)


def test_asyncio_gets_the_same_pieces() -> None:
    ids = tiny.tokenizer()("The mayor of Tarn", add_special_tokens=False)["input_ids"]

    async def read() -> list[str]:
        return [piece async for piece in in_background(background(ids))]

    assert asyncio.run(read()) == list(background(ids))


def test_an_async_stream_that_is_left_or_cancelled_stops_the_model() -> None:
    ids = tiny.tokenizer()("The mayor of Tarn", add_special_tokens=False)["input_ids"] * 100_000

    async def leave() -> None:
        pieces = in_background(background(ids))
        assert await anext(pieces) == "The"
        await pieces.aclose()
        assert threads() == []

    async def cancel() -> None:
        async def read() -> None:
            async for _ in in_background(background(ids)):
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert threads() == []

    asyncio.run(leave())
    asyncio.run(cancel())


def test_work_in_the_background_is_stopped_and_waited_for() -> None:
    cancelled, ended = Cancelled(), []

    def work() -> None:
        while not cancelled(torch.zeros(1, 1), torch.zeros(1, 1)).all():
            time.sleep(0.001)
        ended.append(True)

    async def cancel() -> None:
        task = asyncio.create_task(until_cancelled(work, cancelled))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    asyncio.run(cancel())
    assert asyncio.run(until_cancelled(lambda: 3, Cancelled())) == 3
