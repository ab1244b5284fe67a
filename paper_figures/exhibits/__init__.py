"""What is shown, a module for each family of figures and tables.

A module has `PLACE`, where its exhibits come among the others, and `exhibits(results)`, which gives
them. To add a figure is to add to a module, or to add one: nothing else has to know of it.
"""
