"""Everything that knows audiocraft's formats, and audiocraft itself as a second backend."""
