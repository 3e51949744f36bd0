"""`python -m capcli`."""

from capcli.cli.app import main

main()
