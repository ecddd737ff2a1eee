"""Sections of the pages, each with its sentences, table and figure."""
