"""Packs retrieved texts into prompts as LlamaIndex does, with their emphasis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.node_parser import TokenTextSplitter

from pasta_chains.errors import EmphasisError, PastaError, PromptTooLongError
from pasta_chains.spans import SpanStr


class EmphasisPromptHelper(PromptHelper):
    """LlamaIndex's `PromptHelper`: the same chunks, and their emphasis at the same characters.

    Its arguments are those of `PromptHelper`.
    """

    @classmethod
    def class_name(cls) -> str:
        """Name of this class in serialized form."""
        return "EmphasisPromptHelper"

    @classmethod
    def of(cls, helper: PromptHelper) -> EmphasisPromptHelper:
        """A helper with the settings of another.

        Raises:
            EmphasisError: The other one packs in ways of its own, which could drop emphasis.
        """
        if isinstance(helper, cls):
            return helper
        if type(helper) is not PromptHelper:
            raise EmphasisError(
                f"A {type(helper).__name__} may drop emphasis. Make its class one of "
                "EmphasisPromptHelper, or pass a PromptHelper."
            )
        made = cls(**{name: getattr(helper, name) for name in PromptHelper.model_fields})
        made._token_counter = helper._token_counter
        return made

    def get_text_splitter_given_prompt(self, *args: Any, **kwargs: Any) -> TokenTextSplitter:
        """LlamaIndex's splitter, which counts the tokens of a piece once: it asks several times.

        Raises:
            PromptTooLongError: The template and the answer leave no room for texts.
        """
        try:
            splitter = super().get_text_splitter_given_prompt(*args, **kwargs)
        except PastaError:
            raise
        except ValueError as error:
            raise PromptTooLongError(
                f"The prompt template and an answer of {self.num_output} tokens leave no room for "
                f"retrieved text in the model's context of {self.context_window} tokens ({error}) "
                "Shorten the template, lower max_new_tokens, or use response_mode='documents'."
            ) from error
        splitter._tokenizer = cache(splitter._tokenizer)
        return splitter

    def repack(
        self, prompt: Any, text_chunks: Sequence[str], *args: Any, **kwargs: Any
    ) -> list[str]:
        """Join texts and split them again, so that each chunk fills what the context leaves."""
        if not any(SpanStr(chunk).spans for chunk in text_chunks):
            return super().repack(prompt, text_chunks, *args, **kwargs)
        splitter = self.get_text_splitter_given_prompt(prompt, **_packing(*args, **kwargs))
        stripped = [SpanStr(chunk).strip() for chunk in text_chunks]
        joined = SpanStr("\n\n").join(chunk for chunk in stripped if chunk)
        return [*split_text(joined, splitter)]

    def truncate(
        self, prompt: Any, text_chunks: Sequence[str], *args: Any, **kwargs: Any
    ) -> list[str]:
        """Cut texts so that together they fit what the context leaves."""
        if not any(SpanStr(chunk).spans for chunk in text_chunks):
            return super().truncate(prompt, text_chunks, *args, **kwargs)
        splitter = self.get_text_splitter_given_prompt(
            prompt, num_chunks=len(text_chunks), **_packing(*args, **kwargs)
        )
        return [next(split_text(SpanStr(chunk), splitter), SpanStr()) for chunk in text_chunks]


def _packing(padding: int = 5, llm: Any = None, tools: Any = None) -> dict[str, Any]:
    return {"padding": padding, "llm": llm, "tools": tools}


def split_text(text: SpanStr, splitter: TokenTextSplitter) -> Iterator[SpanStr]:
    """The chunks that a splitter makes of a text, with their emphasis.

    The pieces of a text that are small enough are the splitter's; how many of them make a chunk is
    told again here, in numbers of pieces, since the splitter's chunks do not say where they were.

    Args:
        text: The text.
        splitter: Its `keep_whitespaces` is taken to be off, as in prompt helpers.
    """
    if not text:
        yield text
        return
    plain = text.text
    pieces = splitter._split(plain, splitter.chunk_size)
    edges = [0, *accumulate(map(len, pieces))]
    sizes = [len(splitter._tokenizer(piece)) for piece in pieces]
    for first, end in _windows(sizes, splitter.chunk_size, splitter.chunk_overlap):
        chunk = text[edges[first] : edges[end]].strip()
        if chunk:
            yield chunk


def _windows(sizes: Sequence[int], most: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Ranges of pieces that fit a chunk; each begins with pieces of the one before.

    Args:
        sizes: Tokens of each piece.
        most: Of a chunk.
        overlap: Most tokens that two chunks share.
    """
    first = held = 0
    for number, size in enumerate(sizes):
        if held + size > most:
            yield first, number
            while first < number and (held > overlap or held + size > most):
                held -= sizes[first]
                first += 1
        held += size
    yield first, len(sizes)
