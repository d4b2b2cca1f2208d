"""One call to a model: what it asks for, and how it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .errors import PromptError
from .generation import Generation, read_generation
from .logprobs import RecordedLogprobs
from .prompts import TokenizedPrompt
from .streaming import Cancelled, Decoding, StopStrings
from .structured import StructuredWriting


@dataclass(frozen=True)
class Request:
    """What one call asks for.

    Attributes:
        prompts: As the model reads them.
        stopping: What ends an answer.
        cancelled: Ends all of them.
        decode: Makes text of the tokens of an answer.
        writing: Gives the answers their form, if they have one.
        recorded: Keeps the log-probabilities of their tokens, if they are asked for.
        arguments: All of transformers' `generate`.
    """

    prompts: list[TokenizedPrompt]
    stopping: StopStrings
    cancelled: Cancelled
    decode: Decoding
    writing: StructuredWriting | None
    recorded: RecordedLogprobs | None
    arguments: dict[str, Any]


def generate(model: Any, arguments: dict[str, Any]) -> Tensor:
    """Call transformers' `generate`.

    Raises:
        PromptError: It refuses the arguments.
    """
    try:
        return model.generate(**arguments, return_dict_in_generate=False)  # type: ignore[no-any-return]  # the model is Any
    except (ValueError, NotImplementedError, ImportError, AssertionError) as error:
        raise PromptError(f"transformers cannot generate this way: {error}") from error
    except RuntimeError as error:
        if "new Stream" not in str(error):  # so torch says that there is no GPU to offload from
            raise
        raise PromptError(f"transformers cannot generate this way without CUDA: {error}") from error


def answer(model: Any, requests: Sequence[Request]) -> list[Generation]:
    """Run requests one after the other, and tell how each of their prompts was answered.

    Raises:
        PromptError: transformers refuses the arguments.
    """
    answers = []
    for request in requests:
        arguments = request.arguments
        output = generate(model, arguments)
        width = arguments["input_ids"].shape[1]
        copies = len(output) // len(request.prompts)
        for number, row in enumerate(output):
            prompt = request.prompts[number // copies]
            new = row[width:].tolist()
            found = read_generation(request.decode, prompt, new, request.stopping)
            if request.writing is not None and number in request.writing.shortened:
                found = replace(found, finish_reason="length")
            if request.recorded is not None:
                told = request.recorded.of(number, new, found.new_tokens, request.decode.tokenizer)
                found = replace(found, logprobs=told)
            answers.append(found)
    return answers
