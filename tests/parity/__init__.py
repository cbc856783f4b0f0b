"""Released models as tensors, and naive references."""
