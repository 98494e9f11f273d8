"""Parts of tools.make_dataset: from folders of recordings to the items of a packed set."""
