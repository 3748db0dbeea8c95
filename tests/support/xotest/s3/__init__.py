"""Stores that speak S3, for tests: a fast one in memory, an emulator, a real one, and a careless one."""
