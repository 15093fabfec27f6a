"""Bough runs trees of autonomous coding agents; PostgreSQL is the kernel, agents its processes."""

__version__ = "0.1.0"
