"""Simulators behind the Gymnasium API."""
