"""The only place where disks and networks meet; stages never import each other."""
