"""Pixel work: letterbox, face chips, composition."""
