"""The publishing services: what each holds, its endpoints, and the events about its changes."""
