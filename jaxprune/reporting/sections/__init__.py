"""The sections of the pages: one file each, with its sentences, table and figure."""
