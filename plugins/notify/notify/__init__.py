"""Tells people and services: Slack, e-mail, PagerDuty and signed webhooks."""
