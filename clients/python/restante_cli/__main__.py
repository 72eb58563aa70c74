"""`python -m restante_cli` is `restante`."""

from restante_cli.main import main

main()
