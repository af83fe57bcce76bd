"""How a report reaches people: archive, email, Slack, each delivery exactly once."""
