"""Attar: knowledge distillation for image classifiers, with who teaches whom written down."""

__version__ = "0.1.0"
