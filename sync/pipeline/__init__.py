"""The path of a message: receive, parse, coalesce, handle, acknowledge."""
