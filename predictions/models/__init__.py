"""The models of a deployment: what can be asked of them, which there are, and which workers serve them."""
