"""Models of a server: OpenAI's API, within bounds."""
