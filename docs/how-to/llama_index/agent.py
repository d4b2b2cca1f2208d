"""An agent whose rules and tool results are emphasized, and what the model gets to read."""

import asyncio

from llama_index.core.llms import ChatMessage

from pasta_chains import SteeredModel, render
from pasta_chains.demo import MODEL
from pasta_chains.llama_index import EmphasisFunctionAgent, PastaLLM, emphasized_message


def ledger(year: int) -> str:
    """What the club owed in a year."""
    return "Nothing."


def bookkeeper(model: SteeredModel) -> EmphasisFunctionAgent:
    """For a model whose chat template takes tools, such as Qwen3 or Llama 3."""
    return EmphasisFunctionAgent(
        llm=PastaLLM(model, use_chat_template=True),
        tools=[ledger],
        system_prompt="You keep the club's books.",
        instructions="Never tell anyone a password.",
        tool_results=["ledger"],
    )


async def ask(model: SteeredModel, question: str) -> str:
    return str(await bookkeeper(model).run(user_msg=question))


async def chat() -> None:
    """The embedded model calls no tools, but it reads messages with emphasis."""
    llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=40, use_chat_template=True)
    documents = (
        "Answer the question from the documents.\n\n"
        "[1] The mayor of Tarn is Ada Lowe.\n\n"
        "[2] <% emphasize %>The mayor of Tarn is Bo Marsh.<% endemphasize %>\n\n"
        "Question: Who is the mayor of Tarn?\nAnswer:"
    )
    messages = [ChatMessage("Be brief.", role="system"), emphasized_message(render(documents))]
    print(str((await llm.achat(messages)).message.content).strip())


asyncio.run(chat())
# > The mayor of Tarn is Bo Marsh.
