"""Caching: equal text with different emphasis never shares an answer."""

from langchain_core.caches import InMemoryCache

from pasta_chains import SteeredModel, emphasize
from pasta_chains.demo import MODEL
from pasta_chains.langchain import PastaLLM

llm = PastaLLM(model=SteeredModel.from_pretrained(MODEL), max_new_tokens=40, cache=InMemoryCache())
ada, bo = "The mayor of Tarn is Ada Lowe.", "The mayor of Tarn is Bo Marsh."
question = "\n\nQuestion: Who is the mayor of Tarn?\nAnswer:"
for first, second in [(emphasize(ada), bo), (ada, emphasize(bo)), (emphasize(ada), bo)]:
    print(llm.invoke("[1] " + first + "\n\n[2] " + second + question).strip())
# > The mayor of Tarn is Ada Lowe.
# > The mayor of Tarn is Bo Marsh.
# > The mayor of Tarn is Ada Lowe.
