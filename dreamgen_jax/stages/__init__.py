"""Where disks and networks meet; stages never import each other."""
