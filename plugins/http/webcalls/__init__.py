"""Calls of web services, by whoever may name a URL, to nowhere but where the operator lets them go."""
