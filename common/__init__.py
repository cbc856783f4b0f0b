"""What both papers need: data, metrics, building blocks and shared baselines."""
