"""For tests, ours and plugin authors': hypothesis strategies for depth maps, masks and their awkward corners."""
