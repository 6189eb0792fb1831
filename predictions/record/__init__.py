"""A prediction's record in Redis: its schema, its life, and every command that changes it."""
