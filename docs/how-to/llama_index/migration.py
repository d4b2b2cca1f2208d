"""In place of LlamaIndex's synthesizers: the same mode and arguments, and emphasis."""

from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.llama_index import EmphasisPromptTemplate, EmphasisSynthesizer, PastaLLM

llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=40)
template = EmphasisPromptTemplate(
    "Answer the question from the documents.\n\n{{ context_str }}\n\n"
    "Question: {{ query_str }}\nAnswer:"
)
node = TextNode(text="The mayor of Tarn is Ada Lowe.")
nodes = [NodeWithScore(node=node, score=1.0)]
before = get_response_synthesizer(llm=llm, response_mode="compact", text_qa_template=template)
after = EmphasisSynthesizer(
    llm, emphasis="facts", response_mode="compact", text_qa_template=template
)
for synthesizer in (before, after):
    print(str(synthesizer.synthesize("Who is the mayor of Tarn?", nodes)).strip())
# > The mayor of Tarn is Ada Lowe.
# > The mayor of Tarn is Ada Lowe.
