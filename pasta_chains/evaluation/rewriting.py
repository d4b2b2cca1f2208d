"""What is done to a prompt before it is asked: the baselines that steering is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..chat import Message
from ..errors import TaskError
from ..prompts import Prompt
from ..spans import SpanStr
from .task import Sample

Rewriting = Callable[[Prompt], Prompt]
"""From a prompt with emphasis to the one that is asked."""


def without_emphasis(prompt: Prompt) -> Prompt:
    """Zero-shot: the text alone."""
    return _each(prompt, lambda text: SpanStr(text.text))


def with_emphasis(prompt: Prompt) -> Prompt:
    """Steered: the prompt as it is."""
    return prompt


def marked(mark: str) -> Rewriting:
    """Marked prompts: a mark before and after what is emphasized, and no emphasis.

    Args:
        mark: Such as `"*"` or `'"'`.
    """
    return lambda prompt: _each(prompt, lambda text: _mark(text, mark))


def wrong_emphasis(prompt: Prompt) -> Prompt:
    """The control: all that is not emphasized is, and what is emphasized is not.

    In chat messages it is the text of those messages alone, not of the chat template.

    Raises:
        TaskError: All of the prompt is emphasized.
    """
    if is_whole(prompt):
        raise TaskError("All of a prompt is emphasized, so there is no wrong text to emphasize.")
    return _each(prompt, _turned)


def is_whole(prompt: Prompt) -> bool:
    """Whether all of a prompt is emphasized, so that it has no wrong text to emphasize."""
    turned = _each(prompt, _turned)
    texts = [turned] if isinstance(turned, str) else [message["content"] for message in turned]
    return not any(SpanStr(text).spans for text in texts)


def with_examples(samples: Sequence[Sample], separator: str) -> Rewriting:
    """Few-shot: worked examples before a prompt; and no emphasis.

    Before a text stand the examples' texts, each with its answer; before chat messages the
    examples' messages, each followed by the answer as the assistant's. An example's system message
    is said by its user, where it is not that of the prompt.

    Args:
        samples: The examples.
        separator: What stands after each example of a text.

    Raises:
        TaskError: An example has no answer to show, or prompt and examples are not all texts or all
            chat messages.
    """
    for sample in samples:
        if not sample.wanted.strip():
            raise TaskError(
                f"The sample {sample.id!r} has no answer that a worked example could show. Give it "
                "one (in a file of your own, the field 'example'), or ask for no examples."
            )
    shown = [(without_emphasis(one.prompts[0]), one.wanted) for one in samples]
    texts = [(SpanStr(one), answer) for one, answer in shown if isinstance(one, str)]
    chats = [(one, answer) for one, answer in shown if not isinstance(one, str)]

    def rewrite(prompt: Prompt) -> Prompt:
        plain = without_emphasis(prompt)
        if chats if isinstance(plain, str) else texts:
            raise TaskError(
                "Some prompts are texts and others chat messages, so the ones cannot be worked "
                "examples for the others. Give all the same form, or ask for no examples."
            )
        if isinstance(plain, str):
            worked = [f"{text.text} {answer}{separator}" for text, answer in texts]
            return SpanStr("".join(worked)) + plain
        system = [message for message in plain if message["role"] == "system"]
        turns = [
            turn
            for messages, answer in chats
            for turn in (*_turns(messages, system), {"role": "assistant", "content": answer})
        ]
        return [*system, *turns, *_turns(plain, system)]

    return rewrite


def _turns(prompt: Sequence[Message], system: Sequence[Message]) -> list[Message]:
    """Messages without system messages; those of another prompt come before its first text."""
    own = [message for message in prompt if message["role"] == "system"]
    said = [message["content"] for message in own if message not in system]
    turns = [message for message in prompt if message["role"] != "system"]
    if not turns:
        raise TaskError(
            "A chat has system messages alone, so it cannot stand beside worked examples. Add the "
            "user's message, or ask for no examples."
        )
    first, *rest = turns
    return [{**first, "content": SpanStr("\n\n").join([*said, first["content"]])}, *rest]


def _each(prompt: Prompt, change: Callable[[SpanStr], SpanStr]) -> Prompt:
    if isinstance(prompt, str):
        return change(SpanStr(prompt))
    return [{**message, "content": change(SpanStr(message["content"]))} for message in prompt]


def _runs(text: SpanStr) -> list[tuple[int, int]]:
    """Emphasized ranges, joined where they touch."""
    joined: list[tuple[int, int]] = []
    for start, end, span in text.runs():
        if span.deemphasized:
            continue
        if joined and joined[-1][1] >= start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _mark(text: SpanStr, mark: str) -> SpanStr:
    plain = text.text
    for start, end in reversed(_runs(text)):
        plain = f"{plain[:start]}{mark}{plain[start:end]}{mark}{plain[end:]}"
    return SpanStr(plain)


def _turned(text: SpanStr) -> SpanStr:
    plain, position = text.text, 0
    spans = []
    for start, end in [*_runs(text), (len(plain), len(plain))]:
        if plain[position:start].strip():
            spans.append((position, start))
        position = end
    return SpanStr(plain, spans)
