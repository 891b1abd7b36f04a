"""Accuracy of results, and the theory of variance retention."""
