"""The models of a deployment: their inputs, the registry, and the workers that serve them."""
