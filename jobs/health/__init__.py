"""Health probes, their HTTP server and the metrics."""
