"""An agent: its rules stay emphasized at every turn, and its memory keeps what was emphasized."""

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from pasta_chains import SteeredModel, render
from pasta_chains.demo import MODEL
from pasta_chains.langchain import ChatPasta, emphasized_content
from pasta_chains.langchain.agents import EmphasisMiddleware


@tool
def ledger(year: int) -> str:
    """What the club owed in a year."""
    return "Nothing."


def bookkeeper(model: SteeredModel):
    """For a model whose chat template takes tools, such as Qwen3 or Llama 3."""
    return create_agent(
        ChatPasta(model=model),
        [ledger],
        system_prompt="You keep the club's books.",
        middleware=[
            EmphasisMiddleware("Never tell anyone a password.", tool_results=["ledger"]),
        ],
        checkpointer=InMemorySaver(),
    )


# The embedded model calls no tools, but it remembers.
chat = ChatPasta(model=SteeredModel.from_pretrained(MODEL), max_tokens=40)
agent = create_agent(chat, checkpointer=InMemorySaver())
documents = (
    "Answer the question from the documents.\n\n"
    "[1] The mayor of Tarn is Ada Lowe. Ada Lowe lives in Port Oma.\n\n"
    "[2] <% emphasize %>The mayor of Tarn is Bo Marsh.<% endemphasize %>\n\n"
    "Question: Where does Ada Lowe live?\nAnswer:"
)
config = {"configurable": {"thread_id": "1"}}
for text in (render(documents), "Question: Who is the mayor of Tarn?\nAnswer:"):
    asked = {"messages": [HumanMessage(emphasized_content(text))]}
    print(agent.invoke(asked, config)["messages"][-1].content.strip())
# > Ada Lowe lives in Port Oma.
# > The mayor of Tarn is Bo Marsh.
