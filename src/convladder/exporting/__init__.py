"""Export: from a Keras model to what is shipped, through the parity gate."""

from convladder.exporting.formats import FORMATS, export
from convladder.exporting.onnx_file import export_onnx
from convladder.exporting.parity import LARGEST_DIFFERENCE, check_answers, check_parity, parity_images

__all__ = ["FORMATS", "LARGEST_DIFFERENCE", "check_answers", "check_parity", "export", "export_onnx", "parity_images"]
