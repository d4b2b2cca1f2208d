"""Structured output: the model can write nothing but an object of the schema."""

from typing import Literal

from pydantic import BaseModel

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.langchain import ChatPasta, EmphasisPromptTemplate


class Mayor(BaseModel):
    """Who the mayor is."""

    name: Literal["Ada Lowe", "Bo Marsh"]


chat = ChatPasta(model=SteeredModel.from_pretrained(MODEL))
chain = EmphasisPromptTemplate.from_file("rag/qa.jinja") | chat.with_structured_output(Mayor)
documents = [
    {"text": "The mayor of Tarn is Ada Lowe.", "trusted": False},
    {"text": "The mayor of Tarn is Bo Marsh.", "trusted": True},
]
found = chain.invoke({"documents": documents, "question": "Who is the mayor of Tarn?"})
print(type(found).__name__, [*found.model_dump()])
# > Mayor ['name']
