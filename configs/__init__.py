"""Presets: YAML files that hold only what makes each of them itself."""
