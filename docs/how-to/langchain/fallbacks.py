"""Fallbacks: a model that knows nothing of emphasis gets the messages without it."""

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage

from pasta_chains import SteeredModel, emphasize
from pasta_chains.demo import MODEL
from pasta_chains.errors import PromptTooLongError
from pasta_chains.langchain import ChatPasta, emphasized_content, strip_emphasis

chat = ChatPasta(model=SteeredModel.from_pretrained(MODEL), max_tokens=40)
hosted = FakeListChatModel(responses=["That is a long text."])  # any other chat model
steady = chat.with_fallbacks([strip_emphasis | hosted], exceptions_to_handle=(PromptTooLongError,))
long = emphasize("Read this. ") + "And this. " * 400
print(steady.invoke([HumanMessage(emphasized_content(long))]).content)
# > That is a long text.
