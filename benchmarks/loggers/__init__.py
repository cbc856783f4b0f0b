"""Where runs are logged beside their folder: W&B, TensorBoard, and whatever Lightning knows."""
