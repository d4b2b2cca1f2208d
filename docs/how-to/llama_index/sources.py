"""Sources: the response tells which characters of each node were emphasized."""

from llama_index.core.schema import NodeWithScore, TextNode

from pasta_chains import SpanStr, SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.llama_index import EmphasisSynthesizer, PastaLLM

llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=40)
text = "The Tarn bridge is made of oak. The mayor of Tarn is Ada Lowe."
nodes = [NodeWithScore(node=TextNode(text=text), score=1.0)]
response = EmphasisSynthesizer(llm, "facts").synthesize("Who is the mayor of Tarn?", nodes)
for source in response.source_nodes:
    spans = response.metadata["emphasis"][source.node.node_id]
    shown = SpanStr(source.node.get_content(), [tuple(span) for span in spans])
    print(shown.to_html())
# > The Tarn bridge is made of oak. <mark>The mayor of Tarn is Ada Lowe.</mark>
