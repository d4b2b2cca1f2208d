"""Errors: one family, and each survives being sent to another process."""

from __future__ import annotations

import pickle

import pytest

from pasta_chains import errors

FAMILY = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, Warning)
]


@pytest.mark.parametrize("error", FAMILY)
def test_every_error_is_a_pasta_error_and_can_be_pickled(error: type[Exception]) -> None:
    assert issubclass(error, errors.PastaError)
    needs_two = error is errors.MissingExtraError
    raised = error("langchain-core", "langchain") if needs_two else error("Do this next.")
    again = pickle.loads(pickle.dumps(raised))
    assert type(again) is error
    assert str(again) == str(raised)


def test_a_missing_package_says_what_to_install() -> None:
    error = errors.MissingExtraError("langchain-core", "langchain")
    assert isinstance(error, ImportError)
    assert (error.package, error.extra) == ("langchain-core", "langchain")
    assert 'pip install "pasta-chains[langchain]"' in str(error)
