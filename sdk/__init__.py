"""Clients for Python and TypeScript, generated from the OpenAPI document."""
