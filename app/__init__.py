"""Hone: the product, its domain and its web pages."""
