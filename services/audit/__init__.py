"""Takes the instances' read records durably and finds them again."""
