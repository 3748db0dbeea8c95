"""Backup and restore of a pool's own database ("pool metadata")."""
