"""Starts the server of the bundle: `ecoroute mcp`."""

import sys

from ecoroute_mcp.__main__ import main

sys.exit(main(["mcp"]))
