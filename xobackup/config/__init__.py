"""Configuration: one TOML file plus drop-ins, validated, with messages that name the file and the key.

Pydantic stays in this room; everything below receives plain frozen records.
"""
