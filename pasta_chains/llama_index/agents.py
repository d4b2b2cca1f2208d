"""Agents whose instructions and tool results are emphasized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ToolCallBlock
from llama_index.core.tools import AsyncBaseTool, BaseTool

from pasta_chains.errors import EmphasisError, PromptError, UnsupportedModelError
from pasta_chains.spans import Span, SpanStr, carries_emphasis, concat, emphasize

from .llm import PastaLLM
from .messages import message_text, text_block


class EmphasisFunctionAgent(FunctionAgent):
    """LlamaIndex's `FunctionAgent`, whose instructions stay emphasized at every turn.

        agent = EmphasisFunctionAgent(
            llm=PastaLLM(model, use_chat_template=True), tools=[ledger],
            system_prompt="You keep the club's books.",
            instructions="Never tell a password.", tool_results=["ledger"],
        )

    What memories hold and events show stays as it is: the emphasis is in what the model reads.

    Attributes:
        instructions: Added to the system message. All of a plain text is emphasized; a `SpanStr`
            has its own spans.
        tool_results: Which results are emphasized: True for all, or the names of this agent's
            tools. What a tool says of an error is a result, too.
        alpha: Of emphasis that says nothing else; None is the profile's.

    Raises:
        PromptError: There is nothing to emphasize, or no such tool; or there is an `output_cls`,
            for which LlamaIndex asks the model out of this agent's reach.
        EmphasisError: alpha is out of range, or the system prompt has emphasis of its own.
        UnsupportedModelError: The model is no `PastaLLM`, or calls no tools.
    """

    instructions: Any = None
    tool_results: bool | list[str] = False
    alpha: float | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if carries_emphasis(kwargs.get("system_prompt")):
            raise EmphasisError(
                "LlamaIndex keeps an agent's system_prompt as plain text, without its emphasis. "
                "Give the emphasized text as instructions."
            )
        super().__init__(*args, **kwargs)
        self._check()  # here, because a validator's errors would become pydantic's

    def _check(self) -> None:
        told = "" if self.instructions is None else SpanStr(self.instructions).text.strip()
        if self.instructions is not None and not told:
            raise PromptError("The instructions are empty, so nothing in them can be emphasized.")
        if not told and not self.tool_results:
            raise PromptError(
                "EmphasisFunctionAgent has nothing to emphasize. Give it instructions or "
                "tool_results, or use FunctionAgent."
            )
        if not isinstance(self.llm, PastaLLM) or not self.llm.metadata.is_function_calling_model:
            raise UnsupportedModelError(
                "EmphasisFunctionAgent needs a PastaLLM(…, use_chat_template=True) whose model's "
                f"chat template shows tools; this {type(self.llm).__name__} would lose the "
                "emphasis, or calls no tools."
            )
        if self.output_cls is not None:
            raise PromptError(
                "With output_cls LlamaIndex asks the model once more, without this agent's "
                "emphasis. Leave it out, and make the object of the answer with "
                "llm.structured_predict."
            )
        Span(0, 1, self.alpha)  # refused here, rather than at the first turn
        if not isinstance(self.tool_results, bool) and self.tool_retriever is None:
            tools = [tool for tool in self.tools or () if isinstance(tool, BaseTool)]
            known = {tool.metadata.get_name() for tool in tools}
            for name in self.tool_results:
                if name not in known:
                    raise PromptError(
                        f"tool_results names {name!r}, and the agent has no such tool. It has "
                        f"{', '.join(sorted(map(repr, known)))}."
                    )

    async def _get_llm_response(
        self, ctx: Any, llm_input: list[ChatMessage], llm: Any = None
    ) -> ChatResponse:
        return await super()._get_llm_response(ctx, self._emphasized(llm_input), llm)

    async def _get_response(
        self, current_llm_input: list[ChatMessage], tools: Sequence[AsyncBaseTool]
    ) -> ChatResponse:
        return await super()._get_response(self._emphasized(current_llm_input), tools)

    async def _get_streaming_response(
        self, ctx: Any, current_llm_input: list[ChatMessage], tools: Sequence[AsyncBaseTool]
    ) -> ChatResponse:
        marked = self._emphasized(current_llm_input)
        return await super()._get_streaming_response(ctx, marked, tools)

    def _emphasized(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        names = {
            block.tool_call_id: block.tool_name
            for message in messages
            for block in message.blocks
            if isinstance(block, ToolCallBlock)
        }
        marked = [self._result(message, names) for message in messages]
        return marked if self.instructions is None else self._instructed(marked)

    def _instructed(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        text = self._marked(SpanStr(self.instructions))
        first, rest = (messages[0], messages[1:]) if messages else (None, [])
        if first is None or first.role is not MessageRole.SYSTEM:
            system = ChatMessage(role=MessageRole.SYSTEM, blocks=[text_block(text)])
            return [system, *messages]
        joined = concat([message_text(first), SpanStr("\n\n"), text])
        return [first.model_copy(update={"blocks": [text_block(joined)]}), *rest]

    def _result(self, message: ChatMessage, names: dict[str | None, str]) -> ChatMessage:
        if message.role is not MessageRole.TOOL or not self._is_chosen(message, names):
            return message
        text = message_text(message)
        if not text.strip():
            return message
        return message.model_copy(update={"blocks": [text_block(self._marked(text))]})

    def _is_chosen(self, message: ChatMessage, names: dict[str | None, str]) -> bool:
        if isinstance(self.tool_results, bool):
            return self.tool_results
        return names.get(message.additional_kwargs.get("tool_call_id")) in self.tool_results

    def _marked(self, text: SpanStr) -> SpanStr:
        return text if text.spans else emphasize(text, alpha=self.alpha)
