"""Appointments: what NOMIS has scheduled for the coming weeks against the appointments of the activities API."""
