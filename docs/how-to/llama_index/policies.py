"""What to emphasize: whole nodes, the facts in them, or what was recorded before."""

from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.llama_index import EmphasisSynthesizer, FactEmphasis, PastaLLM, above_score, facts

llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=40)
question = "Who is the mayor of Tarn?"
texts = {
    "The Tarn bridge is made of oak. The mayor of Tarn is Ada Lowe.": 0.4,
    "The mayor of Tarn is Bo Marsh. Bo Marsh lives in Port Oma.": 0.9,
}
nodes = [NodeWithScore(node=TextNode(text=text), score=score) for text, score in texts.items()]


def first_sentence(node: NodeWithScore, query: str) -> list[tuple[int, int]]:
    return [(0, node.node.get_content().index(".") + 1)] if node.score > 0.5 else []


for policy in (above_score(0.5), facts("bm25"), first_sentence):
    response = EmphasisSynthesizer(llm, policy).synthesize(question, nodes)
    print(list(response.metadata["emphasis"].values()))
# > [[], [[0, 58]]]
# > [[[32, 62]], [[0, 30]]]
# > [[], [[0, 30]]]

# Recorded in copies of the nodes, by a postprocessor of the engine, and read there.
recorded = FactEmphasis(above_score(0.5)).postprocess_nodes(nodes, QueryBundle(question))
print(str(EmphasisSynthesizer(llm, "metadata").synthesize(question, recorded)).strip())
# > The mayor of Tarn is Bo Marsh.
