"""Retrieval: what a trusted source says is emphasized, whatever else was found."""

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableParallel, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.langchain import EmphasisPromptTemplate, PastaLLM, emphasize_documents

# Any vector store and any embeddings; these need no download, and find by chance.
store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
store.add_documents(
    [
        Document("The mayor of Tarn is Ada Lowe.", metadata={"source": "rumor.txt"}),
        Document("The mayor of Tarn is Bo Marsh.", metadata={"source": "minutes.txt"}),
        Document("The Tarn bridge is in Tarn.", metadata={"source": "guide.txt"}),
    ]
)
chain = (
    RunnableParallel(
        documents=store.as_retriever(search_kwargs={"k": 3}), question=RunnablePassthrough()
    )
    | emphasize_documents(lambda document: document.metadata["source"] == "minutes.txt")
    | EmphasisPromptTemplate.from_file("rag/qa.jinja")
    | PastaLLM(model=SteeredModel.from_pretrained(MODEL), max_new_tokens=40)
    | StrOutputParser()
)
print(chain.invoke("Who is the mayor of Tarn?").strip())
# > The mayor of Tarn is Bo Marsh.
