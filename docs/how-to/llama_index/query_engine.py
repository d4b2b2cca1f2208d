"""A query engine in five lines: an index, the synthesizer, a question."""

from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.llama_index import EmphasisSynthesizer, PastaLLM

hidden = ["trusted"]  # no text for the model
nodes = [
    TextNode(
        text="The mayor of Tarn is Ada Lowe.",
        metadata={"trusted": False},
        excluded_llm_metadata_keys=hidden,
    ),
    TextNode(
        text="The mayor of Tarn is Bo Marsh.",
        metadata={"trusted": True},
        excluded_llm_metadata_keys=hidden,
    ),
]

index = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=4))  # any embedding model
llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=40)
synthesizer = EmphasisSynthesizer(llm, emphasis="trusted")
engine = RetrieverQueryEngine(index.as_retriever(), synthesizer)
print(str(engine.query("Who is the mayor of Tarn?")).strip())
# > The mayor of Tarn is Bo Marsh.
