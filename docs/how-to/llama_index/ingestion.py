"""Emphasis that documents bring along: kept through splitting, a pipeline, an index on disk."""

from pathlib import Path

from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.llama_index import EmphasisSynthesizer, KeepEmphasis, PastaLLM

text = (
    "Tarn lies in the hills. The Tarn bridge is made of oak. The bridge opened in 1911. "
    "Okonjo Foods is based in Tarn. Okonjo Foods makes plum soup. Visitors like the soup. "
    "The mayor of Tarn is Ada Lowe. Ada Lowe works as a surgeon. Ada Lowe was born in 1971."
)
fact = "The mayor of Tarn is Ada Lowe."
start = text.index(fact)
document = Document(text=text, metadata={"emphasis": [[start, start + len(fact)]]})

embed_model = MockEmbedding(embed_dim=4)  # yours
splitter = SentenceSplitter(chunk_size=52, chunk_overlap=0)
pipeline = IngestionPipeline(transformations=[KeepEmphasis(parser=splitter), embed_model])
index = VectorStoreIndex(pipeline.run(documents=[document]), embed_model=embed_model)
index.storage_context.persist("storage")

storage = StorageContext.from_defaults(persist_dir=str(Path("storage")))
index = load_index_from_storage(storage, embed_model=embed_model)
llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=40)
engine = index.as_query_engine(
    similarity_top_k=5,
    llm=llm,
    response_synthesizer=EmphasisSynthesizer(llm, emphasis="metadata"),
)
response = engine.query("Who is the mayor of Tarn?")
print(str(response).strip())
for source in sorted(response.source_nodes, key=lambda source: source.node.start_char_idx):
    spans = response.metadata["emphasis"][source.node.node_id]
    print(len(source.node.get_content()), "characters:", spans)
# > The mayor of Tarn is Ada Lowe.
# > 143 characters: []
# > 110 characters: [[24, 54]]
