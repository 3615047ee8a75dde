"""A run's settings for kohya's scripts: as a config_file TOML, a bash script, a PowerShell script. No torch here."""
