"""A chat: messages with emphasis mix with LangChain's own, and so do its ways to call a model."""

import asyncio

from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate

from pasta_chains import Span, SpanStr, SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.langchain import ChatPasta, EmphasisMessagePromptTemplate, emphasized_content

chat = ChatPasta(model=SteeredModel.from_pretrained(MODEL), max_tokens=40)
prompt = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer only from the documents."),
        EmphasisMessagePromptTemplate.from_file("human", "rag/qa.jinja"),
    ]
)
ada = {"text": "The mayor of Tarn is Ada Lowe.", "trusted": False}
bo = {"text": "The mayor of Tarn is Bo Marsh.", "trusted": True}
given = {"documents": [ada, bo], "question": "Who is the mayor of Tarn?"}
answer = (prompt | chat).invoke(given)
print(answer.content.strip(), answer.response_metadata["finish_reason"])
# > The mayor of Tarn is Bo Marsh. stop

# A message of its own: the characters to emphasize, counted in its text.
text = prompt.invoke(given).messages[-1].text
start = text.index("Ada")
message = HumanMessage(emphasized_content(SpanStr(text, [Span(start, start + len("Ada Lowe"))])))
print(asyncio.run(chat.ainvoke([message])).content.strip())
# > The mayor of Tarn is Ada Lowe.
