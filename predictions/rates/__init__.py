"""How many requests a second a tenant may send."""
