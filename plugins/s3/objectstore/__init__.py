"""Objects of any store that speaks S3."""
