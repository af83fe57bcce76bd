"""The settings: what they are, how their texts are parsed, and how they are read from the environment."""
