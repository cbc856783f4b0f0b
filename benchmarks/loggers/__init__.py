"""Where runs are logged in addition to their folder: W&B, TensorBoard, and any other Lightning logger."""
