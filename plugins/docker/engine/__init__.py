"""Containers, images, volumes and networks of a Docker Engine."""
