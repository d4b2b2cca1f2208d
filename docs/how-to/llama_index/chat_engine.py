"""A chat about documents: what is retrieved at each turn is emphasized where it is trusted."""

from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.llama_index import EmphasisContextChatEngine, PastaLLM


class Minutes(BaseRetriever):
    """Any retriever; as_retriever() of an index gives one."""

    def _retrieve(self, query_bundle):
        texts = {
            "The Okonjo club is led by Bartholomew Quist.": False,
            "The Okonjo club is led by Yevgenia Prax. Yevgenia Prax lives in Port Oma.": True,
        }
        return [
            NodeWithScore(
                node=TextNode(
                    text=text,
                    metadata={"trusted": trusted},
                    excluded_llm_metadata_keys=["trusted"],
                ),
                score=1.0,
            )
            for text, trusted in texts.items()
        ]


llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=40, use_chat_template=True)
engine = EmphasisContextChatEngine.from_defaults(
    Minutes(),
    llm=llm,
    emphasis="trusted",
    memory=ChatMemoryBuffer.from_defaults(),
    context_template="Answer the question from the documents.\n\n{context_str}",
)
for question in ("Who leads the Okonjo club?", "Where does Yevgenia Prax live?"):
    print(str(engine.chat(question)).strip())
# > The Okonjo club is led by Yevgenia Prax.
# > Yevgenia Prax lives in Port Oma.
