"""Model cards, and folders for the Hugging Face hub."""

from dadkit.publishing.card import model_card
from dadkit.publishing.push import PublishError, prepare, push

__all__ = ["PublishError", "model_card", "prepare", "push"]
