"""How often the checks speak: on ultrasound images, where they shall not, and on pictures of other kinds."""
