"""`python -m tradeoff`, the same as the command `tradeoff`."""

from tradeoff.cli import main

main()
