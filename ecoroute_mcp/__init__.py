"""EcoRoute: the greenest language model that does a task well enough, with sourced numbers and their bounds."""

__version__ = "0.1.0"
