"""LlamaIndex's engines that make their own prompts or nodes, with emphasis in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.query_engine import CitationQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore

from pasta_chains.errors import EmphasisError, PromptError
from pasta_chains.spans import SpanStr, carries_emphasis

from .messages import message_text
from .policies import Policy, policy_of
from .prompts import EmphasisPromptTemplate
from .recorded import KEY, node_text, recorded_spans, with_recorded
from .splitting import split_spans
from .synthesizer import EmphasisSynthesizer


class _EmphasizesContext:
    """What LlamaIndex's chat engines lack: a policy for the nodes that they put into the chat."""

    _llm: Any
    callback_manager: Any
    _emphasis: Policy = "context"

    def __init__(self, *args: Any, emphasis: Policy = "context", **kwargs: Any) -> None:
        _refuse_emphasis([*args, *kwargs.values()])
        super().__init__(*args, **kwargs)
        self._set_emphasis(emphasis)

    @classmethod
    def from_defaults(cls, *args: Any, emphasis: Policy = "context", **kwargs: Any) -> Self:
        """Make an engine as LlamaIndex does.

        Args:
            *args: Those of LlamaIndex's engine.
            emphasis: What to emphasize of a retrieved node, as for `EmphasisSynthesizer`.
            **kwargs: Those of LlamaIndex's engine.

        Raises:
            EmphasisError: The policy is unknown, or a prompt would lose its emphasis.
        """
        _refuse_emphasis([*args, *kwargs.values()])
        engine: Self = super().from_defaults(*args, **kwargs)  # type: ignore[misc]  # of the engine that this is mixed into
        engine._set_emphasis(emphasis)
        return engine

    def _set_emphasis(self, emphasis: Policy) -> None:
        policy_of(emphasis)
        self._emphasis = emphasis
        for name, value in vars(self).items():
            if isinstance(value, EmphasisPromptTemplate) and "condense" not in name:
                raise EmphasisError(
                    f"LlamaIndex puts the source of {name.strip('_')} into a message of its own. "
                    "Give it as text or as LlamaIndex's PromptTemplate; the emphasis of the nodes "
                    "is kept."
                )

    def _get_response_synthesizer(
        self, chat_history: list[ChatMessage], streaming: bool = False
    ) -> Any:
        made = super()._get_response_synthesizer(chat_history, streaming)  # type: ignore[misc]  # as above
        return EmphasisSynthesizer(
            self._llm,
            self._emphasis,
            response_mode="compact",
            text_qa_template=made._text_qa_template,
            refine_template=made._refine_template,
            streaming=streaming,
            callback_manager=self.callback_manager,
        )


def _refuse_emphasis(prompts: Iterable[Any]) -> None:
    if any(carries_emphasis(prompt) for prompt in prompts if isinstance(prompt, str)):
        raise EmphasisError(
            "LlamaIndex keeps the system prompt and the templates of a chat engine as plain text, "
            "without their emphasis. Put the emphasized text into a document; or, in a context "
            "chat engine, into a message of prefix_messages that is not the first."
        )


class EmphasisContextChatEngine(_EmphasizesContext, ContextChatEngine):
    """LlamaIndex's `ContextChatEngine`, which emphasizes what it retrieves.

    engine = EmphasisContextChatEngine.from_defaults(retriever, llm=llm, emphasis="trusted")
    """

    def _set_emphasis(self, emphasis: Policy) -> None:
        super()._set_emphasis(emphasis)
        # LlamaIndex joins the first message with the context, if it is the system's.
        first = self._prefix_messages[:1]
        _refuse_emphasis([message_text(one) for one in first if one.role is MessageRole.SYSTEM])


class EmphasisCondensePlusContextChatEngine(_EmphasizesContext, CondensePlusContextChatEngine):
    """LlamaIndex's `CondensePlusContextChatEngine`, which emphasizes what it retrieves."""


class EmphasisCitationQueryEngine(CitationQueryEngine):
    """LlamaIndex's `CitationQueryEngine`, whose numbered sources keep the emphasis of their nodes.

    Give it an `EmphasisSynthesizer(emphasis="metadata")` for what nodes and `FactEmphasis` record.
    Policies that read the text of a node see that of the source, its number included.

    Raises:
        PromptError: `multimodal=True`: the model reads text only.
    """

    def __init__(self, *args: Any, multimodal: bool = False, **kwargs: Any) -> None:
        if multimodal:
            raise PromptError("The model reads text only, so its sources cannot be multimodal.")
        super().__init__(*args, **kwargs)

    def _create_citation_nodes(self, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        sources = iter(super()._create_citation_nodes(nodes))
        made: list[NodeWithScore] = []
        for scored in nodes:
            for piece in self._pieces(scored):
                source = next(sources)
                if KEY in scored.node.metadata:
                    text = node_text(source.node)  # a heading, the piece, and a line's end
                    marked = text[: -len(piece) - 1] + piece + text[-1:]
                    source = NodeWithScore(
                        node=with_recorded(source.node, marked.spans), score=source.score
                    )
                made.append(source)
        return made

    def _pieces(self, scored: NodeWithScore) -> list[SpanStr]:
        node = scored.node
        pieces = self.text_splitter.split_text(node.get_content(metadata_mode=self._metadata_mode))
        if KEY not in node.metadata:
            return list(map(SpanStr, pieces))
        if self._metadata_mode is not MetadataMode.NONE:
            raise EmphasisError(
                "The emphasis of nodes cannot be followed into sources that show their metadata. "
                "Leave metadata_mode at MetadataMode.NONE."
            )
        return list(split_spans(SpanStr(node_text(node), recorded_spans(node)), pieces))
