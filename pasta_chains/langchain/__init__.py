"""LangChain: prompt templates whose emphasis reaches a steered model.

    chain = EmphasisPromptTemplate.from_template(source) | PastaLLM(model=model) | StrOutputParser()

LangChain copies prompts as plain text in many places, and an offset into text that was copied
elsewhere is wrong. So the spans of a prompt travel inside its prompt value, and those of a message
inside its only text block.
"""

from ..errors import MissingExtraError

try:
    import langchain_core as _  # noqa: F401  (only to say what is missing)
except ImportError as error:
    raise MissingExtraError("langchain-core", "langchain") from error

from .chat_model import ChatPasta
from .content import emphasized_content, message_text, strip_emphasis
from .documents import emphasize_documents
from .llm import PastaLLM
from .prompts import EmphasisMessagePromptTemplate, EmphasisPromptTemplate, EmphasisPromptValue

__all__ = [
    "ChatPasta",
    "EmphasisMessagePromptTemplate",
    "EmphasisPromptTemplate",
    "EmphasisPromptValue",
    "PastaLLM",
    "emphasize_documents",
    "emphasized_content",
    "message_text",
    "strip_emphasis",
]
