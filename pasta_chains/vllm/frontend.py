"""What the process that takes requests does: reads emphasis, and refuses what cannot be steered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ..errors import EmphasisError, PromptError
from ..spans import SpanStr
from ..wire import KEY, Emphasis, marked
from . import metrics
from .reading import Reader, contents, of_tokens, weights_of
from .settings import Settings
from .weights import Weights

_READER = "pasta_chains_reader"
_CHAT = ("add_generation_prompt", "continue_final_message", "tokenize", "chat_template")


def reader_of(online_renderer: Any) -> Reader | None:
    """The reader of a server; None if it is to be stock vLLM."""
    if not hasattr(online_renderer, _READER):
        settings = Settings.of(online_renderer.renderer.config)
        made = settings and Reader.of(
            settings, online_renderer.model_config, online_renderer.chat_template
        )
        setattr(online_renderer, _READER, made)
    found: Reader | None = getattr(online_renderer, _READER)
    return found


def completions(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wraps `render_completion` of the renderer."""

    async def render_completion(online: Any, request: Any, *, skip_mm_cache: bool = False) -> Any:
        reader = reader_of(online)
        asked = (request.vllm_xargs or {}).get(KEY) if reader else None
        if reader is None or asked is None:
            return await original(online, request, skip_mm_cache=skip_mm_cache)
        with metrics.counted():
            emphasis = Emphasis.parse(asked)
            _check_completion(request)
            rendered = await original(online, request, skip_mm_cache=skip_mm_cache)
            if isinstance(rendered, list):
                found = await asyncio.to_thread(_completion, reader, emphasis, request, rendered)
                _hand_on(request, found)
        return rendered

    return render_completion


def chats(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wraps `preprocess_chat` of the renderer."""

    async def preprocess_chat(
        online: Any, request: Any, messages: Any, *args: Any, **kwargs: Any
    ) -> Any:
        reader = reader_of(online)
        if reader is None or type(request).__name__.startswith("Tokenize"):
            return await original(online, request, messages, *args, **kwargs)
        with metrics.counted():
            asked = (getattr(request, "vllm_xargs", None) or {}).get(KEY)
            emphasis = Emphasis(version=1) if asked is None else Emphasis.parse(asked)
            texts = contents(messages)
            if asked is None and not texts:
                return await original(online, request, messages, *args, **kwargs)
            _check_chat(request)
            conversation, rendered = await original(online, request, messages, *args, **kwargs)
            chat = _chat(emphasis, messages, conversation, texts)
            given = _template_arguments(request, *args, **kwargs)
            (prompt,) = rendered
            ids, found = await asyncio.to_thread(
                reader.of_chat, emphasis, chat, prompt.get("prompt"), given
            )
            if request.truncate_prompt_tokens is not None and ids != prompt["prompt_token_ids"]:
                raise EmphasisError(
                    "truncate_prompt_tokens would cut this prompt, which has emphasis. Leave it "
                    "out, or shorten the messages."
                )
            prompt["prompt_token_ids"] = ids
            _hand_on(request, found)
        return conversation, rendered

    return preprocess_chat


def harmony(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps what renders the chats of gpt-oss, which have no chat template."""

    def _make_request_with_harmony(
        online: Any, request: Any, should_include_tools: bool = True
    ) -> Any:
        if reader_of(online) is not None:
            with metrics.counted():
                if (request.vllm_xargs or {}).get(KEY) or contents(request.messages):
                    raise PromptError(
                        "Chats of this model are written without a chat template, so their "
                        "emphasis cannot be placed. Send the prompt to /v1/completions."
                    )
        return original(online, request, should_include_tools)

    return _make_request_with_harmony


def inputs(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps `process_inputs`, through which every request goes, those of `vllm.LLM` too."""

    def process_inputs(
        processor: Any, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any
    ) -> Any:
        request = original(processor, request_id, prompt, params, *args, **kwargs)
        told: dict[str, Any] = getattr(request.sampling_params, "extra_args", None) or {}
        settings = Settings.of(processor.vllm_config) if KEY in told else None
        if settings is None:
            return request
        with metrics.counted():
            weights = _weights(settings, Emphasis.parse(told[KEY]), request)
        rest = {name: value for name, value in told.items() if name != KEY}
        if weights is not None:
            rest[KEY] = weights.dump()
            metrics.STEERED.inc()
        request.sampling_params.extra_args = rest or None
        return request

    return process_inputs


def _weights(settings: Settings, emphasis: Emphasis, request: Any) -> Weights | None:
    if emphasis.is_empty:
        return None
    if emphasis.unit != "tokens":
        raise EmphasisError(
            "Only /v1/completions and /v1/chat/completions take emphasis of characters. Use "
            '"unit": "tokens" here.'
        )
    if request.prompt_token_ids is None or request.prompt_embeds is not None or request.resumable:
        raise PromptError("Embeddings and streamed input cannot have emphasis. Send one prompt.")
    return weights_of(settings, emphasis, len(request.prompt_token_ids))


def _check_completion(request: Any) -> None:
    reason = None
    if request.use_beam_search:
        reason = "use_beam_search"
    elif request.suffix is not None:
        reason = "suffix"
    elif request.prompt_embeds is not None:
        reason = "prompt_embeds"
    elif not isinstance(_prompt(request), str) and not _are_ids(_prompt(request)):
        reason = "several prompts (send one request for each)"
    if reason:
        raise PromptError(f"Emphasis cannot be combined with {reason}. Leave one of them out.")


def _prompt(request: Any) -> Any:
    """The prompt of a request, which may be a list of one."""
    prompt = request.prompt
    return (
        prompt[0]
        if isinstance(prompt, list) and len(prompt) == 1 and not _are_ids(prompt)
        else prompt
    )


def _are_ids(prompt: Any) -> bool:
    return isinstance(prompt, list) and all(isinstance(one, int) for one in prompt)


def _check_chat(request: Any) -> None:
    if not type(request).__name__.startswith("ChatCompletion"):
        raise PromptError("Only chats can have emphasis: send them to /v1/chat/completions.")
    refused = {
        "use_beam_search": getattr(request, "use_beam_search", False),
        "chat_template": getattr(request, "chat_template", None) is not None,
        "continue_final_message": getattr(request, "continue_final_message", False),
        "add_generation_prompt=false": not getattr(request, "add_generation_prompt", True),
    }
    for name, given in refused.items():
        if given:
            raise PromptError(f"Emphasis cannot be combined with {name}. Leave one of them out.")


def _completion(reader: Reader, emphasis: Emphasis, request: Any, rendered: list[Any]) -> Emphasis:
    (prompt,) = rendered
    ids = prompt.get("prompt_token_ids")
    if prompt.get("type") != "token":
        raise PromptError("Only prompts of text or of token ids can have emphasis.")
    asked = _prompt(request)
    if isinstance(asked, str):
        return reader.of_text(emphasis, asked, ids, add_special_tokens=request.add_special_tokens)
    if emphasis.unit != "tokens" and emphasis.spans:
        raise EmphasisError('This prompt is token ids: its spans need "unit": "tokens".')
    return of_tokens(reader.settings, emphasis, asked, ids)


def _chat(
    emphasis: Emphasis,
    messages: Sequence[Any],
    conversation: Sequence[Any],
    texts: Mapping[int, SpanStr],
) -> list[dict[str, Any]]:
    """The messages as vLLM hands them to the chat template, with their emphasis.

    Args:
        emphasis: Of the request.
        messages: As they were sent.
        conversation: As vLLM read them.
        texts: Those that have emphasis in their blocks.
    """
    if emphasis.messages and emphasis.unit != "characters":
        raise EmphasisError('Spans of messages count characters: leave "unit" out.')
    if len(conversation) != len(messages):
        raise PromptError(
            "vLLM joins these messages, or was given their tokens by another server, so emphasis "
            "could be misplaced. Join them, or send the rendered prompt to /v1/completions."
        )
    for named in emphasis.messages:
        if named not in map(str, range(len(messages))):
            raise EmphasisError(
                f"There is no message {named!r} to emphasize; they are numbered from 0 to "
                f"{len(messages) - 1}."
            )
    chat = []
    for number, message in enumerate(conversation):
        text = _plain(message.get("content"))
        marks = emphasis.messages.get(str(number), [])
        if number in texts:
            if marks or texts[number].text != text:
                raise EmphasisError(
                    f"Message {number} has emphasis in its blocks, and also in {KEY}, or vLLM "
                    "reads another text. Use one of the two."
                )
            text = texts[number]
        chat.append({**message, "content": marked(text, marks) if marks else text})
    return chat


def _plain(content: Any) -> str:
    """The text of a message, as vLLM joins its blocks."""
    if content is None or isinstance(content, str):
        return content or ""
    blocks = [block if isinstance(block, str) else block.get("text") for block in content]
    if not all(isinstance(text, str) for text in blocks):
        raise PromptError("Messages with images or sound cannot be sent with emphasis yet.")
    return "\n".join(blocks)


def _template_arguments(
    request: Any,
    default_template: str | None,
    default_template_content_format: Any,
    default_template_kwargs: Mapping[str, Any] | None,
    tool_dicts: list[dict[str, Any]] | None = None,
    parser: Any = None,
    **_: Any,
) -> dict[str, Any]:
    """What vLLM hands to the chat template beside the messages."""
    built = request.build_chat_params(default_template, default_template_content_format)
    given = {**(default_template_kwargs or {}), "tools": tool_dicts, **built.chat_template_kwargs}
    given["tools"] = given["tools"] or tool_dicts
    return {name: one for name, one in given.items() if name not in _CHAT and one is not None}


def _hand_on(request: Any, found: Emphasis) -> None:
    """Leave the emphasis of the tokens with the request, for `process_inputs`."""
    rest = {name: value for name, value in (request.vllm_xargs or {}).items() if name != KEY}
    request.vllm_xargs = rest if found.is_empty else {**rest, KEY: found.dump()}
