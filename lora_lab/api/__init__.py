"""HTTP routes below `/lora-lab/v1` for programs: the work of the tab and the command line, documented in OpenAPI."""
