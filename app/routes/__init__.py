"""The routes of the API, one module a resource. They parse, call one use case, and represent its result."""
