"""The native protocol described for OpenAPI, where drf-spectacular is installed."""
