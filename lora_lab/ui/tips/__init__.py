"""Tooltips of everything in the tab that is no setting: one file for each panel. Settings have theirs in their table.

Keys are elem_ids without ``lora_lab_``; terms of the glossary are explained in its words.
"""
