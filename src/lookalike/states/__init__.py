"""The state of a place that a fixed camera sees: numbers and pixels, no files.

regions       the places: rotated boxes of the view, cut out of a frame wherever it lies on the view
light         what light did between two pictures of one place, and what is left when it is taken back
discriminant  vectors of a few references a state -> which state, how clearly, or none of them
level         how far between two states, 0 to 1, from how their colours mix
evidence      how different two pictures of one place are: embedding, structure, colour; fused against the noise
past          what a place itself looked like before, as a witness beside the references
standing      how a frame lies on the camera's first view, and in which light
observing     the references, what is remembered of a place, what a frame says of it
settling      readings one after another -> settled states and events: evidence gathered over the dwell
monitor       all of it together: fit, update
"""
