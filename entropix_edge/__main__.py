"""`python -m entropix_edge`."""

from .cli import main

main()
