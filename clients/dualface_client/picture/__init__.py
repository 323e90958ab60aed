"""What a picture is apart from its faces: how it moves, where it ends, which windows it has."""
