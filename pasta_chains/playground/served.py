"""The model of a playground, which is loaded while the page is already there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ..emphasis_model import EmphasisModel
from ..errors import PromptError


class Served:
    """A model that is being loaded, and then is there for all visitors.

    Args:
        load: Loads it.
    """

    def __init__(self, load: Callable[[], EmphasisModel]) -> None:
        pool = ThreadPoolExecutor(1, "pasta-playground")
        self._loaded: Future[EmphasisModel] = pool.submit(load)
        pool.shutdown(wait=False)

    @property
    def model(self) -> EmphasisModel:
        """The model.

        Raises:
            PromptError: It is still being loaded.
            PastaError: It could not be loaded.
        """
        if not self._loaded.done():
            raise PromptError("The model is still loading. Try again in a moment.")
        return self._loaded.result()

    def wait(self) -> EmphasisModel:
        """The model, once it is loaded."""
        return self._loaded.result()
