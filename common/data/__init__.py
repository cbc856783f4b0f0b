"""Sources, preparation, storage and loading of interaction data."""
