"""The services that publish: what each holds, its endpoints and the events of its changes."""
