"""`python -m capcli`."""

from capcli.cli import main

main()
