"""What size costs: many events, long runs, many waiting runs, many workers, large payloads."""
