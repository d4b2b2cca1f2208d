"""`python -m pasta_chains` is `pasta-chains`."""

from .cli import main

main()
