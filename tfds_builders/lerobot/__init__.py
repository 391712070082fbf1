"""Any LeRobot v2 folder, as episodes."""
