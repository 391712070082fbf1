"""Datasets by name: each module exports DATASET, or a table DATASETS."""
