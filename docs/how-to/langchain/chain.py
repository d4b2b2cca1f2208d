"""A chain: a template with emphasis, a steered model, a parser."""

from langchain_core.output_parsers import StrOutputParser

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.langchain import EmphasisPromptTemplate, PastaLLM

prompt = EmphasisPromptTemplate.from_template(
    "Answer the question from the documents.\n\n"
    "[1] The mayor of Tarn is Ada Lowe.\n\n"
    "[2] <% emphasize %>{{ trusted }}<% endemphasize %>\n\n"
    "Question: {{ question }}\nAnswer:"
)
model = SteeredModel.from_pretrained(MODEL)
chain = prompt | PastaLLM(model=model, max_new_tokens=40) | StrOutputParser()
given = {"trusted": "The mayor of Tarn is Bo Marsh.", "question": "Who is the mayor of Tarn?"}
print(chain.invoke(given).strip())
# > The mayor of Tarn is Bo Marsh.
print("".join(chain.stream(given)).strip())
# > The mayor of Tarn is Bo Marsh.
