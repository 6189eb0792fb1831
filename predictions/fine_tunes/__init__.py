"""Fine-tunes: models that appear while the service runs, each version an adapter for a model of the registry."""
