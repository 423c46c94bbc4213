"""The parts of a checkpoint on PyTorch: diffusers and transformers hold them."""
