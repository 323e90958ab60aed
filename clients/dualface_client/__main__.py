"""`python -m dualface_client`."""

from dualface_client.cli.main import main

main()
