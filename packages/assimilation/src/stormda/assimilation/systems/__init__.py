"""Test systems: small models of fluids in which the truth is known because we made it."""

from stormda.assimilation.systems.sqg import SQG, SQGConfig

__all__ = ["SQG", "SQGConfig"]
