"""Many inputs to many outputs: what is asked for, prepared and carried out."""

from dualface_client.extras import CLIENT, require

# Said here and not by the first import that fails, for programs that import from this room.
require(*CLIENT)
