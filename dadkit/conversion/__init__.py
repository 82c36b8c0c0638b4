"""Models written as other programs read them, whole or their encoder alone."""

from dadkit.conversion.encoder import ENCODER, encoder_state
from dadkit.conversion.writing import ConversionError, Converted, convert

__all__ = ["ENCODER", "ConversionError", "Converted", "convert", "encoder_state"]
