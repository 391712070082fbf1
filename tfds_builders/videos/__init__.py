"""Folders of plain videos with texts, as Cosmos has them."""
