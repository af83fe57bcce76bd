"""Health probes and metrics, and the HTTP server for both."""
