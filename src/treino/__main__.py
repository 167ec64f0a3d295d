"""`python -m treino`."""

from treino.cli.main import main

main()
