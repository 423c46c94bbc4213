"""The base model kind, the only one that LEGO runs on."""
