"""From an event to NOMIS: queues, upstream services, domains, the store."""
