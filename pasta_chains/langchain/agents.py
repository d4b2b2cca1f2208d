"""Emphasis in LangChain's agents."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import AnyMessage, BaseMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableBinding

from ..errors import EmphasisDroppedWarning, MissingExtraError, PromptError
from ..spans import Span, SpanStr, concat
from .chat_model import ChatPasta
from .content import emphasized_content, has_emphasis, message_text, strip_emphasis

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest
except ImportError as error:
    raise MissingExtraError("langchain", "agents") from error

Instructions: TypeAlias = str | Callable[[ModelRequest[Any]], str | None]
ToolResults: TypeAlias = bool | Collection[str] | Callable[[ToolMessage], bool]


class EmphasisMiddleware(AgentMiddleware[Any, Any, Any]):
    """Keeps instructions emphasized at every turn of an agent, and can emphasize tool results.

        agent = create_agent(
            ChatPasta(model=model), tools,
            system_prompt="You keep the club's books.",
            middleware=[EmphasisMiddleware("Never tell a password.", tool_results=["ledger"])],
        )

    What the agent's state holds, and so what checkpointers and other middleware see, stays as it
    is: the emphasis is in what the model reads. A system prompt that has emphasis of its own
    (`SystemMessage(emphasized_content(text))`) needs no middleware.

    Args:
        instructions: Text that is added to the system message; or a function of the request that
            returns it, or None. All of a plain text is emphasized; a `SpanStr` has its own spans.
        tool_results: Which results are emphasized: True for all, the names of tools, or a function
            that says so of a message.
        alpha: Of emphasis that says nothing else; None is the profile's.
        name: Of spans that have none.

    Raises:
        PromptError: There is nothing to emphasize; or, at a turn, the agent has no such tool.
        EmphasisError: alpha is out of range.
    """

    def __init__(
        self,
        instructions: Instructions | None = None,
        *,
        tool_results: ToolResults = False,
        alpha: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if instructions is None and not tool_results:
            raise PromptError(
                "EmphasisMiddleware has nothing to emphasize. Give it instructions or tool_results."
            )
        if isinstance(instructions, str) and not SpanStr(instructions).text.strip():
            raise PromptError("The instructions are empty, so nothing in them can be emphasized.")
        if isinstance(tool_results, str):
            tool_results = [tool_results]
        if not isinstance(tool_results, bool | Collection) and not callable(tool_results):
            raise PromptError(
                f"tool_results is {tool_results!r}; it must be True, the names of tools, or a "
                "function of a ToolMessage."
            )
        Span(0, 1, alpha, name)  # refused here, rather than at the first turn
        self._instructions = instructions
        self._tool_results = tool_results
        self._alpha = alpha
        self._span_name = name

    @property
    def name(self) -> str:
        """Tells it from others in one agent."""
        what = f"{self._instructions!r} {self._tool_results!r} {self._alpha} {self._span_name}"
        return f"{type(self).__name__}-{zlib.crc32(what.encode()):08x}"

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]
    ) -> Any:
        """Emphasize what the model is to read."""
        return handler(self._emphasized(request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
    ) -> Any:
        """Emphasize what the model is to read."""
        return await handler(self._emphasized(request))

    def _emphasized(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        self._check_tools(request)
        system = self._system_message(request)
        messages = [self._result(message) for message in request.messages]
        model: Any = request.model
        while isinstance(model, RunnableBinding):
            model = model.bound
        if not isinstance(model, ChatPasta):
            warnings.warn(
                f"{type(model).__name__} knows nothing of emphasis, so the agent's was "
                "dropped. Use ChatPasta.",
                EmphasisDroppedWarning,
                stacklevel=2,
            )
            system = system and _plain([system])[0]
            messages = _plain(messages)
        return request.override(system_message=system, messages=messages)

    def _system_message(self, request: ModelRequest[Any]) -> SystemMessage | None:
        given, told = request.system_message, self._instructions
        if callable(told):
            told = told(request)
        if not told or not SpanStr(told).text.strip():
            return given
        text = self._marked(SpanStr(told))
        if given is None:
            return SystemMessage(emphasized_content(text))
        joined = concat([message_text(given), SpanStr("\n\n"), text])
        return given.model_copy(update={"content": emphasized_content(joined)})

    def _check_tools(self, request: ModelRequest[Any]) -> None:
        named = self._tool_results
        if isinstance(named, bool) or callable(named) or not request.tools:
            return
        known = {_tool_name(tool) for tool in request.tools}
        unknown = [name for name in named if name not in known]
        if unknown:
            raise PromptError(
                f"tool_results names {unknown[0]!r}, and the agent has no such tool. It has "
                f"{', '.join(sorted(map(repr, known)))}."
            )

    def _result(self, message: AnyMessage) -> AnyMessage:
        if not isinstance(message, ToolMessage) or not self._is_chosen(message):
            return message
        text = message_text(message)
        if not text.strip() or has_emphasis(message):
            return message
        return message.model_copy(update={"content": emphasized_content(self._marked(text))})

    def _is_chosen(self, message: ToolMessage) -> bool:
        which = self._tool_results
        if isinstance(which, bool):
            return which
        return bool(which(message)) if callable(which) else message.name in which

    def _marked(self, text: SpanStr) -> SpanStr:
        """All of a text emphasized, or its own spans, with what they do not say."""
        spans = text.spans or (Span(0, len(text)),)
        return SpanStr(
            text.text,
            [
                span._replace(
                    alpha=self._alpha if span.alpha is None else span.alpha,
                    name=self._span_name if span.name is None else span.name,
                )
                for span in spans
            ],
        )


def _tool_name(tool: Any) -> str:
    found = tool.get("function", tool).get("name") if isinstance(tool, dict) else tool.name
    return str(found)


def _plain(messages: Sequence[BaseMessage]) -> list[Any]:
    found: list[Any] = strip_emphasis.invoke(list(messages))
    return found
