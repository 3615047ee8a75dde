"""Settings out of other people's files: kohya's TOML, kohya_ss' JSON, launch scripts, LoRA files. No torch here.

Each reader turns its file into kohya's option names and values (`found.Reading`); `kohya.take` makes settings of those.
"""
