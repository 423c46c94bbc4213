"""Checkpoints, PyTorch's parts and the MLX decoder."""
