"""Calls the upstream services over HTTP.

A call goes from an `operation` through the `transport` to `http`.

- `services`: all services, with one client for each
- `operation`: what a call sends, and what it relies on in the response
- `transport`: one call, with its breaker, token and limit, and what a failure means
- `http`: one request and its response; `response_head` parses the head of the response
- `sockets`: the time limit of a whole request
- `tokens`: the tokens of HMPPS Auth
- `breaker`: stops the calls to a service that is down; `breaker_rules` decides when a service counts as down
- `concurrency_limit`: how many calls to a service may be in flight
- `error_bodies`: reads the bodies of failed responses
- `responses`: the models of bodies, responses and pages
- `mappings`: the mapping service
- `prisoners`: NOMIS's lists of bookings, and the "prisoner received" events
- `prisons`: which prisons use the new services
- `application_insights`: sends telemetry events to Application Insights
"""
