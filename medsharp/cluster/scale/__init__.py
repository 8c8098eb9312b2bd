"""How far one machine's rates reach: many images, cells of a study or requests, by sums and by simulation."""
