"""Deployment: a trained student as files that others can load."""

from attar.deploy.package import load, load_card, save

__all__ = ["load", "load_card", "save"]
