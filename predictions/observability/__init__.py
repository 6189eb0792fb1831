"""What an operator sees of the service: metrics, logs, health, and the events of a prediction's life."""
