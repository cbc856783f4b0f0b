"""The hot paths, measured on this machine."""
